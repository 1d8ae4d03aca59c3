"""The command as it is typed: what it prints, what it leaves on the disk, and how it fails."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from labels.reader import Labels


@pytest.fixture
def command(root):
    """Runs the script from the repository's folder, the project not being installed."""

    def run(*flags, env=None, **options) -> subprocess.CompletedProcess:
        line = [sys.executable, "labels/build_vocab.py", *map(str, flags)]
        return subprocess.run(
            line, cwd=root, capture_output=True, text=True, env=os.environ | (env or {}), **options
        )

    return run


@pytest.fixture
def folder(tmp_path, write_run, captions):
    images = [("u1", 0), ("u2", 1), ("u3", 0), ("u4", 3), ("u5", 2)]
    return write_run(tmp_path / "tags", captions, images, shards=2)


def test_it_writes_five_files_and_says_what_they_cover(tmp_path, folder, command):
    out = tmp_path / "new" / "x.parquet"
    done = command("--tags", folder, "--out", out, "--k", 2)
    assert done.returncode == 0, done.stderr
    names = ["x.html", "x.parquet", "x.png", "x.vocab.parquet", "x.vocab.txt"]
    assert sorted(p.name for p in out.parent.iterdir()) == names
    text = " ".join(done.stdout.split())
    assert "captions 4 " in text
    assert "tags 10 (6 objects, 4 attributes" in text
    assert "distinct tags 8 (5 objects, 3 attributes)" in text
    assert "vocabulary 4 (2 objects, 2 attributes)" in text
    assert "covers 60.00% of all tags 75.00% of the captions" in text
    assert "images 5 labels 1.80 an image on average (p5 0, p25 1, p50 2" in text
    assert "without label 1 (20.00%)" in text
    for name in names:
        assert f"wrote {out.parent / name}" in done.stdout
    assert len(Labels(out)) == 5


def test_any_number_of_threads_gives_the_same_bytes(tmp_path, write_run, captions, command):
    rows = [
        dict(c, objects=[*c.get("objects", []), f"n{i % 50}"]) for i in range(200) for c in captions
    ]
    images = [(f"k{i}", i * 7 % len(rows)) for i in range(len(rows))]
    folder = write_run(tmp_path / "tags", rows, images, shards=11)
    found = []
    for threads in ("1", "2", "5"):
        out = tmp_path / threads / "x.parquet"
        flags = ("--tags", folder, "--out", out, "--k", 20)
        assert command(*flags, env={"POLARS_MAX_THREADS": threads}).returncode == 0
        found.append({p.name: p.read_bytes() for p in out.parent.iterdir()})
    assert found[0] == found[1] == found[2]


def _fails(done: subprocess.CompletedProcess, message: str) -> None:
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_mistakes_are_one_sentence_and_write_nothing(tmp_path, folder, command):
    out = tmp_path / "new" / "x.parquet"
    _fails(command("--tags", tmp_path / "nowhere", "--out", out), "there is no tags folder")
    (tmp_path / "empty").mkdir()
    _fails(command("--tags", tmp_path / "empty", "--out", out), "no Parquet file")
    _fails(command("--tags", folder, "--out", out, "--k", 0), "--k must be at least 1")
    _fails(
        command("--tags", folder, "--out", out, "--stop-tags", "nowhere"),
        "there is no file nowhere",
    )
    (folder / "part-000001.json").unlink()
    _fails(command("--tags", folder, "--out", out), "1 of its 2 shards are missing")
    assert not out.parent.exists()


def test_a_partial_run_is_taken_when_asked_and_said_so(tmp_path, folder, command):
    (folder / "part-000001.json").unlink()
    out = tmp_path / "x.parquet"
    done = command("--tags", folder, "--out", out, "--partial", "--k", 2)
    assert done.returncode == 0
    assert "note: " in done.stderr
    assert "1 missing shard" in done.stderr
    assert Labels(out).keys(range(3)) == ["u1", "u2", "u3"]


def test_a_disk_that_fills_up_leaves_the_old_files(tmp_path, write_tags, command):
    rows = [
        {"caption": hashlib.sha256(b"%d" % i).hexdigest(), "objects": [f"t{i % 3}"]}
        for i in range(5000)
    ]
    folder = write_tags(tmp_path / "tags", rows)
    out = tmp_path / "out" / "x.parquet"
    assert command("--tags", folder, "--out", out, "--k", 1).returncode == 0
    before = {p.name: p.read_bytes() for p in out.parent.iterdir()}
    assert len(before["x.parquet"]) > 100_000
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    done = command("--tags", folder, "--out", out, "--k", 2, preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "error: cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, folder, command):
    (tmp_path / "file").write_text("")
    _fails(
        command("--tags", folder, "--out", tmp_path / "file" / "x.parquet", "--k", 1),
        "cannot write to",
    )


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_command_that_is_ended_leaves_the_earlier_files_and_nothing_else(
    tmp_path, write_tags, command, root, seconds
):
    rows = [{"caption": f"{i * 7919:x}" * 8, "objects": [f"t{i % 99}"]} for i in range(60_000)]
    folder = write_tags(tmp_path / "tags", rows)
    out = tmp_path / "out" / "x.parquet"
    flags = ["--tags", str(folder), "--out", str(out)]
    assert command(*flags, "--k", 1).returncode == 0
    before = {p.name: p.read_bytes() for p in out.parent.iterdir()}
    line = [
        sys.executable,
        "labels/build_vocab.py",
        *flags,
        "--ks",
        ",".join(map(str, range(1, 50))),
    ]
    process = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and len(list(out.parent.iterdir())) == len(before):
        time.sleep(0.005)
    foreign = out.parent / f".x.parquet.{process.pid}4"  # of process 1234, where 123 is ended
    foreign.write_bytes(b"another's")
    before[foreign.name] = b"another's"
    time.sleep(seconds)
    assert len(list(out.parent.iterdir())) > len(before)  # files are being written
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == before


def test_a_command_that_is_killed_leaves_what_the_next_one_clears(
    tmp_path, write_tags, command, root
):
    rows = [{"caption": f"{i * 7919:x}" * 8, "objects": [f"t{i % 99}"]} for i in range(60_000)]
    out = tmp_path / "out" / "x.parquet"
    flags = ["--tags", str(write_tags(tmp_path / "tags", rows)), "--out", str(out)]
    many = ["--ks", ",".join(map(str, range(1, 50)))]
    line = [sys.executable, "labels/build_vocab.py", *flags, *many]
    process = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not (out.parent.is_dir() and list(out.parent.iterdir())):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert list(out.parent.iterdir())
    foreign = out.parent / f".x.parquet.{process.pid}4"  # of process 1234, where 123 was killed
    foreign.write_text("another's")
    done = command(*flags, "--k", 1)
    assert done.returncode == 0, done.stderr
    hidden = [path for path in out.parent.iterdir() if path.name.startswith(".")]
    assert hidden == [foreign]


def test_tags_of_real_captions_become_labels(tmp_path, shared, root, command):
    """From a TSV of web captions through a parser to the trainer's reader."""
    tags = tmp_path / "tags"
    lines = (shared / "captions" / "cc3m_val_dev.tsv").read_text().splitlines()[:600]
    (tmp_path / "captions.tsv").write_text("\n".join(lines) + "\n")
    parse = [
        sys.executable,
        "parsing/run.py",
        "--parser",
        "nltk",
        "--captions",
        tmp_path / "captions.tsv",
    ]
    env = os.environ | {"NLTK_DATA": str(shared.parent / "nltk_data")}
    parsed = subprocess.run(
        [*parse, "--output", tags, "--shard-size", "100"],
        cwd=root,
        capture_output=True,
        text=True,
        env=env,
    )
    assert parsed.returncode == 0, parsed.stderr
    done = command("--tags", tags, "--out", tmp_path / "x.parquet", "--k", 200)
    assert done.returncode == 0, done.stderr
    labels = Labels(tmp_path / "x.parquet")
    assert len(labels) == 600
    assert labels.captions([0, 599]) == [lines[0].split("\t")[1], lines[599].split("\t")[1]]
    assert labels.vocabulary.tags[0] in " ".join(lines).lower()
    assert 0.5 < len(labels.indices) / len(labels) < 10
