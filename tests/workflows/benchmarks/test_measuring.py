"""Measuring in turns, memory and tables."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap

import pytest
from PIL import Image

from workflows.benchmarks.measuring import photo, resident, table, take_turns


def test_sides_take_turns_and_the_first_call_is_not_counted():
    now, calls = [0.0], []

    def side(name: str, seconds: list[float]):
        def run() -> None:
            calls.append(name)
            now[0] += seconds.pop(0)

        return run

    sides = {"a": side("a", [90, 1, 5, 3]), "b": side("b", [90, 2, 2, 8])}
    assert take_turns(sides, 3, clock=lambda: now[0]) == {"a": 3, "b": 2}
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"


def test_memory_that_is_held_is_seen(root):
    """In a process of its own: this one may have that much freed memory to give out again."""
    code = """
        from workflows.benchmarks.measuring import resident
        before = resident("VmRSS")
        held = b"1" * 50_000_000
        print(resident("VmRSS") - before)
    """
    child = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(child, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40_000_000


def test_a_field_that_the_system_does_not_tell():
    with pytest.raises(RuntimeError, match="does not tell NoSuchField"):
        resident("NoSuchField")


def test_a_drawn_photograph_is_a_jpeg_of_its_size():
    image = Image.open(io.BytesIO(photo(0, (64, 48))))
    assert (image.format, image.size) == ("JPEG", (64, 48))
    assert photo(0, (64, 48)) != photo(1, (64, 48))


def test_figures_of_a_table_are_below_each_other():
    assert table([("", "one"), ("longer", "2")]) == "        one\nlonger    2"
