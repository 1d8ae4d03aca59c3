"""The dry run, whole and in small; its generated captions; and what it says of a failure."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter

import numpy as np
import pytest

from common.errors import UserError
from workflows.cc12m.dry_run import Settings, check_labels, dry_run, main
from workflows.cc12m.watch import StageFailed, left, watch
from workflows.cc12m.zipf_captions import caption_lines, write_captions


@pytest.mark.cluster
def test_the_whole_road_over_two_thousand_captions(tmp_path, capsys):
    """A real Ray, real shards, real labels; every figure is one that was measured."""
    folder, file = tmp_path / "dry", tmp_path / "figures.json"
    flags = ["--captions", "2000", "--folder", str(folder), "--shard-size", "500", "--actors", "1"]
    assert main([*flags, "--k", "100", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "2,000 captions" in said
    assert re.search(r"first shard committed after \d+\.\d s, captions read after \d", said)
    assert "2,000 images, 100 tags" in said
    assert "1,000 compared with their captions" in said
    stages = {one["name"]: one for one in json.loads(file.read_text())["stages"]}
    assert list(stages) == [
        "write the captions",
        "parsing/run.py",
        "labels/build_vocab.py",
        "open and check the labels",
    ]
    run = stages["parsing/run.py"]
    # Four shards: tags, stats and captions of each; one index; two markers, the metrics and the lock.
    assert run["files"] == 4 * 3 + 1 + 4
    assert run["tree_gb"] > run["driver_gb"] > run["driver_own_gb"] > 0.05
    assert all(one["seconds"] > 0 and one["gb"] > 0 for one in stages.values())
    assert run["cpu_seconds"] > stages["write the captions"]["cpu_seconds"] > 0
    assert not folder.exists()


def test_the_same_seed_gives_the_same_captions_and_another_one_others(tmp_path):
    def digest(seed: int) -> str:
        write_captions(tmp_path / "c.tsv", 300, distinct=1000, seed=seed)
        return hashlib.sha256((tmp_path / "c.tsv").read_bytes()).hexdigest()

    assert digest(0) == digest(0) != digest(1)
    assert [path.name for path in tmp_path.iterdir()] == ["c.tsv"]


def test_captions_look_like_a_web_crawl_s():
    """Keys once each, a tenth of the captions repeated, and words by Zipf's law."""
    lines = b"".join(caption_lines(20_000, 5000, 0)).decode().splitlines()
    keys, captions = zip(*(line.split("\t") for line in lines), strict=True)
    assert len(set(keys)) == 20_000
    assert 0.88 < len(set(captions)) / len(captions) < 0.93
    counts = Counter(word for caption in captions for word in caption.split() if len(word) >= 4)
    assert 4.3 < sum(counts.values()) / len(captions) < 4.9
    frequent = np.array([count for _, count in counts.most_common(100)])
    slope = np.polyfit(np.log(np.arange(1, 101)), np.log(frequent), 1)[0]
    assert slope == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--captions", "0"], "--captions is at least 1"),
        (["--shard-size", "0"], "--shard-size is at least 1"),
        (["--actors", "-1"], "--actors is at least 1"),
    ],
)
def test_flags_that_make_no_sense_are_told_in_one_sentence(flags, sentence, capsys):
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_folder_that_exists_is_never_touched(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="exists: name a new folder"):
        dry_run(Settings(folder=str(tmp_path)))
    assert (tmp_path / "mine").read_text() == "precious"


def test_too_little_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"need about [\d.]+ GB, and .* GB free"):
        dry_run(Settings(captions=10**13, folder=str(tmp_path / "x")))
    assert list(tmp_path.iterdir()) == []


def test_a_command_is_watched_with_its_children(tmp_path):
    """A child of a child holds 200 MB for two seconds; the driver itself holds nothing of it."""
    hold = "import time; x = b'1' * 200_000_000; time.sleep(2)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    command = [
        sys.executable,
        "-c",
        f"{start}; open('x.bin', 'wb').write(b'1' * 1000); print('ok')",
    ]
    stage = watch("hold", command, tmp_path / "x", tmp_path)
    assert stage.tree_gb > 0.2 > 0.1 > stage.driver_gb > 0
    assert (stage.files, stage.gb, stage.said) == (1, 1e-6, "ok\n")
    assert 2 < stage.seconds < 60


def test_processor_time_is_that_of_all_processes(tmp_path):
    burn = "import time\nwhile time.process_time() < 1: pass\ntime.sleep(1)"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    stage = watch("burn", [sys.executable, "-c", start], tmp_path / "x", tmp_path)
    assert 1 <= stage.cpu_seconds < 3


def test_a_command_that_ends_at_once_is_measured_as_well(tmp_path):
    """It ends long before the pause between two looks has grown to its length."""
    stage = watch("short", [sys.executable, "-c", "pass"], tmp_path / "x", tmp_path)
    assert stage.cpu_seconds > 0


def test_a_command_that_fails_says_why(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('error: no luck')"]
    with pytest.raises(StageFailed, match="a stage: error: no luck"):
        watch("a stage", command, tmp_path, tmp_path)
    with pytest.raises(StageFailed, match="it ended with status 3"):
        watch("a stage", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path, tmp_path)


def test_files_are_counted_in_folders_below_too(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_bytes(b"123")
    (tmp_path / "a" / "y").write_bytes(b"4")
    assert left(tmp_path / "a") == (2, 4)


def test_labels_that_do_not_fit_their_captions_are_noticed(tmp_path):
    import pyarrow as pa

    from labels.label_file import LABELS, LabelWriter
    from labels.vocabulary import OBJECT, Vocabulary
    from workflows.cc12m.zipf_captions import url

    def labels(name: str, ids: list[int], rows: int = 2):
        vocabulary = Vocabulary(["house", "tree"], [OBJECT] * 2, np.array([2, 1]), 2)
        table = [{"key": url(n), "caption": "the house", "tag_ids": ids} for n in range(rows)]
        with LabelWriter(tmp_path / name, vocabulary) as writer:
            writer.write(pa.Table.from_pylist(table, schema=LABELS))
        return tmp_path / name

    assert check_labels(2, labels("good.parquet", [0])).startswith("2 images, 2 tags, 2 labels")
    with pytest.raises(UserError, match=r"row 0 of .* has other tags than its caption"):
        check_labels(2, labels("wrong.parquet", [0, 1]))
    with pytest.raises(UserError, match="has 1 rows for 2 images"):
        check_labels(2, labels("short.parquet", [0], rows=1))
