from __future__ import annotations

import threading

import pytest

from common.errors import UserError
from labels.execution import InProcess, OnRay, mapper
from parsing.job import cluster


def test_results_come_in_the_order_of_the_batches():
    assert list(InProcess()(lambda batch, add: batch + add, range(20), 100)) == list(
        range(100, 120)
    )
    assert list(InProcess()(lambda batch: batch, [])) == []


def test_only_one_batch_is_computed_ahead():
    computed = []
    ready = threading.Event()

    def compute(batch):
        computed.append(batch)
        if len(computed) > 1:
            ready.set()
        return batch

    results = InProcess()(compute, range(10))
    assert next(results) == 0
    assert ready.wait(10)
    assert computed == [0, 1]
    assert list(results) == list(range(1, 10))


def test_what_a_batch_raises_is_raised():
    def fail(batch):
        raise UserError(f"batch {batch}")

    with pytest.raises(UserError, match="batch 0"):
        list(InProcess()(fail, range(3)))


def test_a_cluster_that_is_not_there_is_one_sentence():
    with (
        pytest.raises(UserError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"),
        mapper(True, "127.0.0.1:1"),
    ):
        pass


@pytest.mark.cluster
def test_a_mistake_in_a_task_is_the_user_s_sentence():
    def fail(batch):
        raise UserError(f"shard {batch} is damaged")

    with cluster.connected("local"):
        assert list(OnRay()(lambda batch, add: batch + add, range(9), 1)) == list(range(1, 10))
        with pytest.raises(UserError, match=r"^shard 0 is damaged$"):
            list(OnRay()(fail, range(3)))
