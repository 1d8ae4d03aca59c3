"""What the commands of this folder share: flags become settings, a mistake becomes one sentence."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from common.errors import UserError
from common.flags import add_flags, given, setting

T = TypeVar("T")
GOES_ON = "stopped; the same command goes on from here"


def comma_list(default: tuple, help: str, kind: type = str, **options: Any) -> Any:
    """A field for `common.flags` that takes several values divided by commas.

    Args:
        default: a tuple; the flag's help shows it.
        help: as of `common.flags.setting`.
        kind: `str` or `int`, of each value.

    Raises:
        UserError: when the flag is read and a value is not of that kind.
    """

    def read(text: str) -> tuple:
        try:
            return tuple(kind(one.strip()) for one in text.split(",") if one.strip())
        except ValueError as error:
            raise UserError(f"whole numbers divided by commas are needed, not '{text}'") from error

    shown = ",".join(map(str, default))
    help = f"{help}; default {shown}" if default else help
    return setting(default, help, type=read, nargs=None, **options)


def at_least(settings: object, **least: float) -> None:
    """Checks numbers of a settings dataclass; None passes.

    Args:
        least: the smallest value of each field, by the field's name.

    Raises:
        UserError: a number is smaller.
    """
    for name, smallest in least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise UserError(f"--{name.replace('_', '-')} is at least {smallest}, not {value}")


def read_settings(doc: str, settings: type[T], arguments: Sequence[str] | None = None) -> T:
    """Settings from the command line.

    Args:
        doc: what the command does, for its help.
        settings: a dataclass whose fields are made by `common.flags.setting`.

    Raises:
        UserError: as the dataclass.
    """
    parser = argparse.ArgumentParser(
        description=doc, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_flags(parser, settings)
    return settings(**given(parser.parse_args(arguments), settings))


def run_command(
    doc: str,
    settings: type[T],
    work: Callable[[T], str | None],
    arguments: Sequence[str] | None = None,
    stopped: str = GOES_ON,
) -> int:
    """Reads the flags, works, and prints what the work returns.

    Args:
        doc, settings: as of `read_settings`.
        work: takes the settings and returns the text to print, if any.
        stopped: what Ctrl-C prints.

    Returns:
        the exit code: 0, 2 for a user's mistake, 130 after Ctrl-C.
    """
    try:
        text = work(read_settings(doc, settings, arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    if text is not None:
        print(text)
    return 0


def in_temporary_folder(work: Callable[[T, Path], str]) -> Callable[[T], str]:
    """Work for `run_command` that takes a folder too, which is deleted at its end."""

    def inside(settings: T) -> str:
        with tempfile.TemporaryDirectory() as folder:
            return work(settings, Path(folder))

    return inside
