"""Modules import each other in one direction: no circles, and no stage imports a later one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# A stage imports the stages before it and itself.
STAGES = ("common", "parsing", "labels", "training", "eval", "workflows")
# A distillation scores its student on gold tags.
ALLOWED = {"parsing.distill": "eval.parser_scores", "parsing.distillation": "eval.parser_scores"}


def module_name(file: Path, root: Path) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file: Path, own: str, known: set[str]) -> Iterator[tuple[str, int]]:
    """(module, line) of every import of a known module, also in functions and behind TYPE_CHECKING.

    Args:
        file: the module's file.
        own: the module's name.
        known: names of the project's modules.
    """
    package = own.split(".") if file.stem == "__init__" else own.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: one dot is the module's package, each more its parent
                parent = package[: len(package) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            # `from a import b` imports the module a.b if there is one, else the name b of a.
            both = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name in known else base for name in both]
        for name in names:
            if name in known and name != own:
                yield name, node.lineno


def read_imports(root: Path, folders: tuple[str, ...] = STAGES) -> dict[str, dict[str, int]]:
    """Imported modules and the line of the import, by module, for all .py files of some folders."""
    files = {
        module_name(file, root): file
        for folder in folders
        for file in sorted((root / folder).rglob("*.py"))
    }
    return {name: dict(imported(file, name, set(files))) for name, file in files.items()}


def find_circles(imports: dict[str, dict[str, int]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in imports[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                circles.append(path_through(group, imports))

    for module in imports:
        if module not in order:
            visit(module)
    return circles


def path_through(group: list[str], imports: dict[str, dict[str, int]]) -> list[str]:
    """A shortest circle within a group of modules that reach each other; it ends where it starts."""
    start = min(group)
    paths = [[start]]
    for path in paths:
        for other in sorted(set(imports[path[-1]]) & set(group)):
            if other == start:
                return [*path, start]
            if other not in path:
                paths.append([*path, other])
    raise AssertionError(f"no circle through {start}")


def find_backward(imports: dict[str, dict[str, int]]) -> list[str]:
    """A sentence per import of a later stage."""
    found = []
    for module, others in imports.items():
        for other, line in others.items():
            stage, later = (STAGES.index(name.split(".")[0]) for name in (module, other))
            if later > stage and not any(
                inside(module, importer) and inside(other, allowed)
                for importer, allowed in ALLOWED.items()
            ):
                found.append(f"{module}, line {line}, imports {other}")
    return found


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.fixture(scope="module")
def imports() -> dict[str, dict[str, int]]:
    return read_imports(Path(__file__).parents[1])


def test_no_modules_import_each_other_in_a_circle(imports):
    assert [" -> ".join(circle) for circle in find_circles(imports)] == []


def test_no_stage_imports_a_later_one(imports):
    assert find_backward(imports) == []


SOURCES = {
    "common/__init__.py": "",
    "common/errors.py": "",
    "parsing/run.py": "import labels.build",
    "parsing/distill.py": "from eval.parser_scores import gold",
    "labels/__init__.py": "from .build import late",
    "labels/build.py": "def late():\n    from training.data import read",
    "training/data.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import loop",
    "training/loop.py": "import labels.build as b\nfrom common.errors import UserError\nimport os",
    "eval/parser_scores/gold.py": "from common import errors",
}


@pytest.fixture
def bad(tmp_path) -> dict[str, dict[str, int]]:
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return read_imports(tmp_path)


def test_a_circle_hidden_in_a_function_and_behind_type_checking_is_found(bad):
    assert find_circles(bad) == [["labels.build", "training.data", "training.loop", "labels.build"]]


def test_an_import_of_a_later_stage_is_named_with_its_line(bad):
    assert find_backward(bad) == [
        "parsing.run, line 1, imports labels.build",
        "labels.build, line 2, imports training.data",
    ]
