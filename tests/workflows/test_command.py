"""Flags from settings, and how a command ends."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from common.errors import UserError
from common.flags import setting
from workflows.command import at_least, comma_list, read_settings, run_command


@dataclass(frozen=True)
class Settings:
    count: int = setting(3, "how many")
    limit: int | None = setting(None, "at most")
    seeds: tuple[int, ...] = comma_list((0, 1), "numbers", int)
    names: tuple[str, ...] = comma_list((), "names")

    def __post_init__(self) -> None:
        at_least(self, count=1, limit=1)


def test_values_divided_by_commas_become_a_tuple():
    assert read_settings("", Settings, []) == Settings()
    found = read_settings("", Settings, ["--seeds", "4,5", "--names", "a, b,"])
    assert (found.seeds, found.names) == ((4, 5), ("a", "b"))
    with pytest.raises(UserError, match="whole numbers divided by commas are needed, not 'x'"):
        read_settings("", Settings, ["--seeds", "x"])


def test_a_number_that_is_too_small_is_named_with_its_flag():
    with pytest.raises(UserError, match="--count is at least 1, not 0"):
        read_settings("", Settings, ["--count", "0"])
    with pytest.raises(UserError, match="--limit is at least 1, not -2"):
        read_settings("", Settings, ["--limit", "-2"])


def test_the_help_shows_the_defaults(capsys):
    with pytest.raises(SystemExit):
        read_settings("What it does.", Settings, ["--help"])
    said = capsys.readouterr().out
    assert "What it does." in said
    assert "numbers; default 0,1" in said


def test_a_command_prints_what_its_work_returns(capsys):
    assert run_command("", Settings, lambda settings: f"{settings.count}", ["--count", "7"]) == 0
    assert capsys.readouterr().out == "7\n"
    assert run_command("", Settings, lambda settings: None, []) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no luck"), 2, "error: no luck\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here\n"),
    ],
)
def test_a_command_that_fails_says_why_in_one_line(error, code, said, capsys):
    def work(settings: Settings) -> None:
        raise error

    assert run_command("", Settings, work, []) == code
    assert capsys.readouterr().err == said
