"""One event loop serves many threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from common.event_loop import EventLoop


@pytest.fixture
def loop():
    loop = EventLoop()
    yield loop
    loop.close()


def test_each_thread_gets_what_its_own_coroutine_returns(loop):
    meeting = asyncio.Barrier(4)  # no one gets on until all four are there
    found: dict[int, int] = {}

    async def meet(number: int) -> int:
        await meeting.wait()
        return 10 * number

    def ask(number: int) -> None:
        found[number] = loop.run(meet(number))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert found == {0: 0, 1: 10, 2: 20, 3: 30}


def test_what_a_coroutine_raises_is_raised_and_the_loop_goes_on(loop):
    async def fail() -> None:
        raise KeyError("this one")

    async def work() -> str:
        return "done"

    with pytest.raises(KeyError, match="this one"):
        loop.run(fail())
    assert loop.run(work()) == "done"


def test_a_closed_loop_leaves_no_thread():
    before = threading.active_count()
    EventLoop().close()
    assert threading.active_count() == before
