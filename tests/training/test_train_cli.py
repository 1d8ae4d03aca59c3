"""The commands that people type, on real images and captions, alone and under torchrun."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from common.errors import UserError
from training.dense import load_dense
from training.protocols import settings_of
from training.settings import Settings
from training.train import main, parse


def flags(settings: dict) -> list[str]:
    return [part for flag, value in settings.items() for part in (f"--{flag}", str(value))]


@pytest.fixture
def short(world, tmp_path) -> dict:
    """Flags of a short run."""
    return {
        "labels": world.labels, "images": world.folder, "model": world.clip,
        "runs": tmp_path / "runs", "cache": tmp_path / "cache",
        "batch-size": 8, "steps": 4, "workers": 0, "log-every": 1, "lr": 0.5,
    }  # fmt: skip


def run(root, command: list[str], **options) -> subprocess.CompletedProcess:
    environment = {
        k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    }
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, **options
    )


def torchrun(processes: int) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone",
        f"--nproc-per-node={processes}", "training/train.py",
    ]  # fmt: skip


def curve(folder) -> list[float]:
    return [
        json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


@pytest.fixture
def real(shared, tmp_path, make_labels, tiny_folder) -> dict:
    """Flags of a run on real photographs and captions, labelled by the labels' own code."""
    coco = shared / "coco_mini"
    notes = json.loads((coco / "annotations" / "captions_train2017.json").read_text())
    names = {image["id"]: image["file_name"] for image in notes["images"]}
    captions = {names[note["image_id"]]: note["caption"] for note in notes["annotations"]}
    labels = make_labels(tmp_path / "coco.parquet", captions)
    return {
        "labels": labels, "images": coco / "train2017", "model": tiny_folder,
        "runs": tmp_path / "runs", "cache": tmp_path / "cache",
        "batch-size": 16, "epochs": 3, "workers": 1, "log-every": 1, "lr": 0.3,
    }  # fmt: skip


def test_two_ranks_train_on_real_images_as_one_does(real, root, tmp_path):
    alone = run(root, [sys.executable, "training/train.py", *flags(real | {"name": "one"})])
    assert alone.returncode == 0, alone.stderr
    assert "80 of 80 images" in alone.stdout
    both = run(root, torchrun(2) + flags(real | {"name": "two"}))
    assert both.returncode == 0, both.stderr
    one, two = curve(tmp_path / "runs" / "one"), curve(tmp_path / "runs" / "two")
    assert len(one) == 15
    assert two == pytest.approx(one, rel=1e-4)
    assert both.stdout.count("the run is in") == 1


def test_two_ranks_share_shards_and_go_on_after_a_break(world, short, root, tmp_path):
    short |= {"images": world.shards}
    assert main(flags(short | {"name": "one"})) == 0
    half = run(root, torchrun(2) + flags(short | {"steps": 2}))
    assert half.returncode == 0, half.stderr
    rest = run(root, [*torchrun(2), *flags(short), "--resume"])
    assert rest.returncode == 0, rest.stderr
    assert "going on after step 2" in rest.stdout
    one, two = (curve(tmp_path / "runs" / name) for name in ("one", "tagalign"))
    assert two == pytest.approx(one, rel=1e-4)


def test_more_ranks_than_shards_is_one_sentence(short, root, tmp_path, make_shard, pictures):
    (tmp_path / "shards").mkdir()
    make_shard(tmp_path / "shards" / "0.tar", pictures)
    done = run(root, torchrun(2) + flags(short | {"images": tmp_path / "shards"}))
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "error: 2 ranks are more than the 1 shards at" in errors[0] + errors[-1]
    assert "Traceback" not in done.stderr.partition("ChildFailedError")[0].partition("E1")[0]


def test_every_setting_is_a_flag_and_its_help_says_the_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # argparse would break lines within names
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text
    for part in ("default ViT-B-16", "default 0.001", "default balanced", "default 4096"):
        assert part in text
    assert parse(["--labels", "x.parquet"]) == Settings("x.parquet")


def test_flags_become_settings_of_their_types():
    line = "--labels x --lr 0.5 --steps 3 --size 48 --separate --no-quick-gelu --crop center"
    expected = Settings(
        "x", lr=0.5, steps=3, size=48, separate=True, quick_gelu=False, crop="center"
    )
    assert parse(line.split()) == expected


def test_a_protocol_gives_the_defaults_and_flags_replace_single_ones():
    release = parse(["--labels", "x", "--protocol", "release"])
    assert release == settings_of("release", labels="x")
    assert (release.tag_loss, release.mean_over, release.steps) == ("softmax", "all", 30_000)
    assert release.least_probability == 1e-8
    assert (release.flip, release.erasing, release.decay_scalars) == (0.5, 0.25, True)
    assert release.randaugment == "rand-m9-mstd0.5-inc1"
    assert (release.interpolation, release.prompt) == ("bilinear", "a photo of a {}.")
    line = "--labels x --protocol release --tag-loss balanced --flip 0 --no-decay-scalars"
    given = parse(line.split())
    changed = {"tag_loss": "balanced", "flip": 0.0, "decay_scalars": False}
    assert given == replace(release, **changed) == settings_of("release", labels="x", **changed)
    assert parse(["--labels", "x", "--protocol", "paper"]) == Settings("x")
    epochs = parse(["--labels", "x", "--protocol", "release", "--epochs", "2"])
    assert (epochs.steps, epochs.epochs) == (None, 2.0)
    assert epochs == settings_of("release", labels="x", epochs=2.0)
    with pytest.raises(UserError, match="--protocol is one of paper, release, not 'x'"):
        settings_of("x", labels="y")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"randaugment": "much"}, "RandAugment is written as rand-m9"),
        ({"randaugment": "rand-m9-qq3"}, "RandAugment is written as rand-m9"),
        ({"erasing": 2}, "the erasing is a probability"),
        ({"prompt": "a photo"}, "--prompt has {} once"),
        ({"prompt": "{} {}"}, "--prompt has {} once"),
        ({"prompt": "{} {x}"}, "--prompt has {} once"),
        ({"micro-batch": 0}, "--micro-batch is at least 1"),
        ({"labels": "nowhere.parquet"}, "nowhere.parquet"),
        ({"images": "nowhere"}, "there are no images at nowhere"),
        ({"model": "ViT-Z"}, "open_clip knows no model 'ViT-Z'"),
        ({"size": 30}, "--size 30 is not whole patches of 8 pixels"),
        ({"min-scale": 0}, "the smallest crop is a share"),
        ({"depth": 0}, "at least one block"),
        ({"batch-size": 0}, "--batch-size is at least 1, not 0"),
        ({"lr": 0}, "--lr is above 0"),
        ({"least-probability": 1}, "--least-probability is at least 0 and below 1, not 1.0"),
        ({"epochs": -1}, "--epochs is above 0"),
        ({"steps": 0}, "--steps is at least 1"),
        ({"name": "a/b"}, "--name is the name of a folder"),
        ({"tag-weight": 0, "text-weight": 0}, "there is nothing to learn"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_and_exit_code_2(changes, sentence, short, capsys):
    assert main(flags(short | changes)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1


def test_the_release_protocol_trains_and_its_run_says_so(short, tmp_path):
    line = flags(short | {"protocol": "release", "path": "clearclip", "steps": 2})
    assert main(line) == 0
    settings = json.loads((tmp_path / "runs/tagalign/settings.json").read_text())["settings"]
    assert settings["protocol"] == "release"
    assert settings["normalisation"] == "imagenet"
    assert settings["randaugment"] == "rand-m9-mstd0.5-inc1"
    assert load_dense(str(tmp_path / "runs/tagalign")).path.mode == "clearclip"


def test_a_label_file_without_its_vocabulary_is_one_sentence(short, tmp_path, world, capsys):
    import pyarrow.parquet as pq

    table = pq.read_table(world.labels)
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "bare.parquet")
    assert main(flags(short | {"labels": tmp_path / "bare.parquet"})) == 2
    error = capsys.readouterr().err
    assert "bare.parquet" in error
    assert "vocabulary" in error
    assert len(error.strip().splitlines()) == 1


def test_keys_that_match_no_image_are_one_sentence(short, tmp_path, make_labels, capsys):
    labels = make_labels(tmp_path / "other.parquet", {"elsewhere": "a red ball"})
    assert main(flags(short | {"labels": labels})) == 2
    assert "0 of the 32 images at" in capsys.readouterr().err


def test_an_empty_or_cut_off_shard_is_one_sentence(short, tmp_path, pictures, make_shard, capsys):
    shards = tmp_path / "shards"
    shards.mkdir()
    make_shard(shards / "a.tar", pictures)
    whole = (shards / "a.tar").read_bytes()
    for content, sentence in (
        (whole[:5000], "a.tar is cut off or damaged"),
        (b"", "a.tar is empty"),
    ):
        (shards / "a.tar").write_bytes(content)
        assert main(flags(short | {"images": shards})) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.strip().splitlines()) == 1


def test_a_damaged_shard_is_left_out_if_asked_for(short, tmp_path, pictures, make_shard, capsys):
    shards = tmp_path / "shards"
    shards.mkdir()
    items = list(pictures.items())
    make_shard(shards / "a.tar", dict(items[:20]))
    (shards / "b.tar").write_bytes(b"<html>" * 500)
    (shards / "c.tar").write_bytes(b"")
    assert main(flags(short | {"images": shards})) == 2
    assert "leave it out with --skip-damaged" in capsys.readouterr().err
    assert main([*flags(short | {"images": shards}), "--skip-damaged"]) == 0
    out = capsys.readouterr().out
    assert "left out: the shard" in out
    assert "20 of 20 images have one of the 32 rows" in out


def test_a_disk_that_fills_while_saving_leaves_the_last_good_checkpoint(short, root, tmp_path):
    folder = tmp_path / "runs" / "tagalign"
    command = [sys.executable, "training/train.py", *flags(short)]
    assert run(root, command).returncode == 0
    before = (folder / "checkpoint.safetensors").read_bytes()

    def small_disk() -> None:
        limit = len(before) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "training/train.py", *flags(short | {"steps": 6}), "--resume"]
    full = run(root, command, preexec_fn=small_disk)
    assert full.returncode == 2
    assert "error: cannot write to" in full.stderr
    assert "Traceback" not in full.stderr
    assert (folder / "checkpoint.safetensors").read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".check")]
    after = run(root, command)
    assert after.returncode == 0, after.stderr
    assert "going on after step 4" in after.stdout
