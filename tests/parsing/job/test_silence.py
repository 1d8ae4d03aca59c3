"""A run that says nothing says why, whatever the driver waits for."""

from __future__ import annotations

import io
import time

from parsing.job.silence import Silence


def test_what_takes_long_is_said_and_what_speaks_for_itself_is_not():
    said = io.StringIO()
    with Silence(said, longest=0.4) as silence:
        silence.doing("writing shard 3 to a slow disk")
        for _ in range(10):
            time.sleep(0.1)
            silence.broken()
        assert said.getvalue() == ""
        time.sleep(1.0)
    lines = said.getvalue().splitlines()
    assert lines
    assert set(lines) <= {f"writing shard 3 to a slow disk, for {n} s" for n in (1, 2, 3)}
