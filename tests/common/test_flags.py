"""Flags come from a dataclass's fields, and a command line from its values."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, field

import pytest

from common.flags import add_flags, comma_separated, command_line, given, setting


@dataclass(frozen=True)
class Trip:
    to: tuple[str, ...] = setting((), "places", action="append", metavar="NAME")
    through: tuple[str, ...] = setting((), "countries", nargs=None, type=comma_separated)
    people: tuple[str, ...] = setting(("me",), "who goes", flag="--person")
    by: str = setting("rail", "100% of the way", choices=("rail", "foot"))
    days: int | None = setting(None, "length")
    speed: float = setting(1.5, "in km/h")
    night: bool = setting(False, "travel by night")
    insured: bool | None = setting(None, "insurance; default: as last time")
    notes: list[str] = field(default_factory=list)


def parsed(*arguments: str, **options) -> Trip:
    parser = argparse.ArgumentParser()
    add_flags(parser, Trip, **options)
    return Trip(**given(parser.parse_args(arguments), Trip))


def test_without_flags_every_field_has_its_default():
    assert parsed() == Trip()


def test_values_have_the_fields_types():
    trip = parsed("--days", "3", "--speed", "2", "--night", "--by", "foot")
    assert trip == Trip(days=3, speed=2.0, night=True, by="foot")


def test_tuples_are_repeated_flags_several_values_or_names_between_commas():
    trip = parsed("--to", "Rome", "--to", "Oslo", "--through", "a, b,,c", "--person", "x", "y")
    assert trip == Trip(to=("Rome", "Oslo"), through=("a", "b", "c"), people=("x", "y"))


@pytest.mark.parametrize(
    ("arguments", "value"), [((), None), (("--insured",), True), (("--no-insured",), False)]
)
def test_a_switch_that_may_be_none_is_told_from_false(arguments, value):
    assert parsed(*arguments).insured is value


def test_other_defaults_replace_the_fields_own_also_in_the_help():
    parser = argparse.ArgumentParser()
    add_flags(parser, Trip, defaults={"by": "foot"})
    assert given(parser.parse_args([]), Trip)["by"] == "foot"
    assert "100% of the way; default foot" in parser.format_help()
    assert "in km/h; default 1.5" in parser.format_help()


def test_only_the_named_fields_become_flags():
    parser = argparse.ArgumentParser()
    add_flags(parser, Trip, names=("by",))
    assert given(parser.parse_args([]), Trip) == {"by": "rail"}
    with pytest.raises(SystemExit):
        parser.parse_args(["--days", "3"])


@pytest.mark.parametrize(
    "trip",
    [
        Trip(),
        Trip(to=("Rome", "New York"), through=("a", "b"), people=("x", "y"), days=0),
        Trip(by="foot", speed=0.25, night=True, insured=False),
        Trip(insured=True),
    ],
)
def test_a_command_line_makes_the_settings_that_it_was_made_from(trip):
    python, script, *arguments = shlex.split(command_line("trip.py", trip))
    assert (python, script) == ("python", "trip.py")
    assert parsed(*arguments) == trip
