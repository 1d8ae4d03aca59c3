"""Command-line flags from a dataclass: a setting is described once, where it is defined.

    @dataclass(frozen=True)
    class Settings:
        steps: int = setting(100, "optimiser steps", metavar="N")

`add_flags` makes `--steps N` of it, with the default in its help; `given` reads the values back.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any

_KEY = "flag"


def setting(
    default: Any, help: str, *, choices: Sequence[str] | None = None, **options: Any
) -> Any:
    """A field of a settings dataclass that is also a flag.

    Args:
        default: of the field; a tuple makes a flag that takes several values, and
            `dataclasses.MISSING` a flag that must be given.
        help: what the flag does, in one sentence. The default is added to it.
        choices: the values that it may have.
        options: more of `argparse.ArgumentParser.add_argument`: `metavar`, `action`, `nargs`, `type`;
            and `flag`, the flag's name where it differs from the field's.
    """
    options |= {"help": help} | ({"choices": choices} if choices else {})
    return dataclasses.field(default=default, metadata={_KEY: options})


def add_flags(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    settings: type,
    names: Collection[str] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Adds a flag for every field of a dataclass that was made by `setting`.

    Args:
        parser: a parser or a group of one.
        settings: the dataclass. Its fields are `bool` (a switch), `int`, `float`, `str`, one of
            those or None, or a tuple of strings. A field that is `bool` or None makes a pair of
            switches, `--name` and `--no-name`.
        names: only these fields; None takes all.
        defaults: values by field that replace the dataclass's own defaults.
    """
    kinds, defaults = typing.get_type_hints(settings), defaults or {}
    for field in dataclasses.fields(settings):
        if _KEY in field.metadata and (names is None or field.name in names):
            options = dict(field.metadata[_KEY])
            options.pop("flag", None)
            default = defaults.get(field.name, field.default)
            parser.add_argument(
                _flag(field), dest=field.name, **_options(default, kinds[field.name], options)
            )


def _flag(field: dataclasses.Field) -> str:
    return field.metadata[_KEY].get("flag", f"--{field.name.replace('_', '-')}")


def _options(default: Any, kind: Any, options: dict[str, Any]) -> dict[str, Any]:
    if default is dataclasses.MISSING:
        return {"type": _plain(kind), "required": True} | options
    if kind is bool:
        return {"action": "store_true"} | options
    if _plain(kind) is bool:
        return {"action": argparse.BooleanOptionalAction, "default": default} | options
    if isinstance(default, tuple):
        options = {"nargs": "+"} | options
        if options.get("action") == "append":
            options.pop("nargs")
        return {"default": None, "help": options.pop("help")} | options
    if default is not None and default != "":
        shown = f"{default:g}" if isinstance(default, float) else default
        options["help"] = f"{options['help']}; default {shown}".replace("%", "%%")
    return {"type": _plain(kind), "default": default} | options


def _plain(kind: Any) -> type:
    """`int` of `int | None`."""
    if isinstance(kind, types.UnionType):
        return next(each for each in typing.get_args(kind) if each is not type(None))
    return kind


def given(flags: argparse.Namespace, settings: type) -> dict[str, Any]:
    """Keyword arguments of a settings dataclass from the flags that `add_flags` added."""
    values = {}
    for field in dataclasses.fields(settings):
        if _KEY not in field.metadata or not hasattr(flags, field.name):
            continue
        value = getattr(flags, field.name)
        if isinstance(field.default, tuple):
            value = field.default if value is None else tuple(value)
        values[field.name] = value
    return values


def command_line(script: str, settings: Any) -> str:
    """What a person types for a settings dataclass; flags at their defaults are left out."""
    words = ["python", script]
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if _KEY not in field.metadata or value == field.default:
            continue
        flag = _flag(field)
        if value is True:
            words.append(flag)
        elif value is False:
            words.append(f"--no-{flag.removeprefix('--')}")
        elif isinstance(value, tuple) and field.metadata[_KEY].get("action") == "append":
            words += [word for each in value for word in (flag, str(each))]
        elif field.metadata[_KEY].get("type") is comma_separated:
            words += [flag, ",".join(value)]
        else:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def comma_separated(text: str) -> tuple[str, ...]:
    """The names in `a, b,c`, without empty ones; a `type` for a flag of several names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
