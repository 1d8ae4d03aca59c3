"""What several ranks must agree on: when to stop, where to go on, what a batch's loss is."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from common.errors import UserError
from training.trainer import Trainer, train

PATIENCE = 400  # seconds, after which two ranks wait for each other


def start(rank: int, work, port: int, arguments: tuple, results) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    try:
        results[rank] = work(rank, *arguments)
    except UserError as error:
        results[rank] = str(error)


@pytest.fixture
def on_two_ranks(free_port):
    """Runs `work(rank, *arguments)` on two ranks; their results, or the sentences of their errors."""

    def run(work, *arguments):
        with mp.Manager() as manager:
            results = manager.dict()
            # A fork has imported everything already, and cannot use a GPU.
            method = "spawn" if torch.cuda.is_available() else "fork"
            both = mp.start_processes(
                start, (work, free_port(), arguments, results), 2, join=False, start_method=method
            )
            end = time.monotonic() + PATIENCE
            while not both.join(timeout=1):
                if time.monotonic() > end:
                    for process in both.processes:
                        process.kill()
                    pytest.fail("the ranks wait for each other")
            return [results[0], results[1]]

    return run


def curve(settings) -> list[dict]:
    lines = Path(settings.folder, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def train_with_a_signal(rank: int, settings, sides: tuple[str, str]):
    """Trains; in its third step each rank gets SIGTERM before or after it has counted."""
    count = Trainer._count

    def interrupted(self, parts):
        if self.step == 2 and sides[rank] == "before":
            signal.raise_signal(signal.SIGTERM)
        counted = count(self, parts)
        if self.step == 2 and sides[rank] == "after":
            signal.raise_signal(signal.SIGTERM)
        return counted

    Trainer._count = interrupted
    train(settings)
    return "finished"


@pytest.mark.parametrize("sides", [("before", "after"), ("after", "never"), ("never", "after")])
def test_ranks_that_get_a_signal_at_different_moments_stop_together(
    sides, world, tmp_path, on_two_ranks
):
    settings = world.settings(tmp_path)
    first, second = on_two_ranks(train_with_a_signal, settings, sides)
    assert first == second
    assert "which is saved in" in first
    whole = world.settings(tmp_path, name="whole")
    train(whole)
    train(replace(settings, resume=True))
    assert [line["step"] for line in curve(settings)] == [1, 2, 3, 4, 5, 6]
    ours, theirs = ([line["loss"] for line in curve(s)] for s in (settings, whole))
    assert ours == pytest.approx(theirs, rel=1e-4)


def train_on_own_disk(rank: int, settings, disks: tuple[str, str]):
    train(replace(settings, runs=f"{settings.runs}/{disks[rank]}"))
    return "finished"


def test_ranks_on_disks_of_their_own_go_on_from_one_step(world, tmp_path, on_two_ranks):
    settings = world.settings(tmp_path, steps=4)
    half = replace(settings, steps=2)
    assert on_two_ranks(train_on_own_disk, half, ("a", "b")) == ["finished"] * 2
    rest = replace(settings, resume=True)
    swapped = on_two_ranks(train_on_own_disk, rest, ("b", "a"))
    assert all(
        "rank 1 has a checkpoint of step 2" in sentence and "the first rank has none" in sentence
        for sentence in swapped
    )
    assert on_two_ranks(train_on_own_disk, rest, ("a", "b")) == ["finished"] * 2
    whole = replace(settings, name="whole")
    train(whole)
    ours = curve(replace(settings, runs=f"{settings.runs}/a"))
    assert [line["step"] for line in ours] == [1, 2, 3, 4]
    assert [line["loss"] for line in ours] == pytest.approx(
        [line["loss"] for line in curve(whole)], rel=1e-4
    )


def train_on_own_images(rank: int, settings, places: tuple[str, str], seeds: tuple[int, int]):
    train(replace(settings, images=places[rank], seed=seeds[rank], cache=f"{settings.cache}{rank}"))


def test_ranks_with_other_images_or_flags_are_refused(world, tmp_path, on_two_ranks, pictures):
    few = tmp_path / "few"
    few.mkdir()
    for key, (_, data) in list(pictures.items())[:20]:
        (few / f"{key}.jpg").write_bytes(data)
    settings = world.settings(tmp_path)
    whole = str(world.folder)
    sentences = on_two_ranks(train_on_own_images, settings, (whole, str(few)), (0, 0))
    assert all("rank 1 has images 20, and the first rank 32" in one for one in sentences)
    sentences = on_two_ranks(train_on_own_images, settings, (whole, whole), (0, 1))
    assert all("rank 1 has seed 1, and the first rank 0" in one for one in sentences)


def train_shared(rank: int, settings):
    train(settings)
    return "finished"


@pytest.mark.parametrize("separate", [False, True])
def test_one_tagged_image_on_two_ranks_has_its_whole_loss(
    separate, world, tmp_path, on_two_ranks, make_labels, pictures
):
    captions = {key: text if key == "000003" else "of" for key, (text, _) in pictures.items()}
    labels = make_labels(tmp_path / "one.parquet", captions, kinds=1 + separate)
    settings = world.settings(
        tmp_path, labels=str(labels), batch_size=32, steps=2, separate=separate, crop="center"
    )
    alone = replace(settings, name="alone")
    train(alone)
    assert on_two_ranks(train_shared, settings) == ["finished"] * 2
    for key in ("loss_tag", "loss_text", "gradient_norm"):
        ours, theirs = ([line[key] for line in curve(s)] for s in (settings, alone))
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_two_ranks_share_kept_features(world, kept, tmp_path, on_two_ranks):
    settings = world.settings(
        tmp_path, features=kept.features, images="nowhere", crop="whole", normalisation="clip"
    )
    alone = replace(settings, name="alone")
    train(alone)
    half = replace(settings, steps=2)
    assert on_two_ranks(train_shared, half) == ["finished"] * 2
    assert on_two_ranks(train_shared, replace(settings, resume=True)) == ["finished"] * 2
    for key in ("loss_tag", "loss_text", "gradient_norm"):
        ours, theirs = ([line[key] for line in curve(s)] for s in (settings, alone))
        assert ours == pytest.approx(theirs, rel=1e-4)
