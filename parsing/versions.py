"""What stands in a run's fingerprint for the code that makes tags.

Source text is hashed, rather than a number kept that somebody must remember to raise: a change
that nobody thought of, or that lies uncommitted on one machine, still makes another run. The price
is that a changed comment does so too.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).parent


def digest_of(*code: ModuleType | Callable, libraries: tuple[str, ...] = ()) -> str:
    """A hash of source text, 16 hex digits.

    Args:
        code: modules, each with all modules of this package that it imports, however indirectly;
            functions and classes, each by itself.
        libraries: distributions whose versions count as well, such as one that holds a dictionary.
    """
    found = hashlib.sha256()
    for each in code:
        if inspect.ismodule(each):
            for file in sorted(_imported(Path(each.__file__), set())):
                name = file.relative_to(_PACKAGE).as_posix()
                found.update(name.encode() + b"\0" + file.read_bytes() + b"\0")
        else:
            found.update(inspect.getsource(each).encode() + b"\0")
    for name in libraries:
        found.update(f"{name} {_version(name)}\0".encode())
    return found.hexdigest()[:16]


def _imported(file: Path, found: set[Path]) -> set[Path]:
    """A file of this package and the files that it imports, also within functions."""
    found.add(file)
    for name in _names(file):
        other = _PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
        if other != Path(__file__) and other not in found and other.is_file():
            _imported(other, found)
    return found


def _names(file: Path) -> Iterator[str]:
    """What may be a module of this package: `a.b` of `import a.b`, `a` and `a.b` of `from a import b`."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.startswith(f"{_PACKAGE.name}."))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"
