"""Dependencies: what is imported is declared, and CONTRIBUTING.md says why each one is there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

from tests.test_imports import STAGES

# Names of imports that differ from those of the packages.
PACKAGES = {
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "yaml": "pyyaml",
}
ROOMS = (*STAGES, "tagalign", "prompts", "tests")
# Used where the user has them and asks for them; nothing needs them.
OPTIONAL = {"wandb"}


def declared(root) -> set[str]:
    about = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [about["dependencies"], *about["optional-dependencies"].values()]
    names = {re.match(r"[\w-]+", each)[0] for one in lists for each in one}
    return {plain(name) for name in names} - {"tagalign"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(root) -> dict[str, str]:
    """Third-party packages and a file that imports each, also inside functions."""
    found = {}
    for room in set(ROOMS) - {"tests"}:
        for file in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in (name.split(".")[0] for name in names):
                    if name not in sys.stdlib_module_names and name not in ROOMS:
                        found[plain(PACKAGES.get(name, name))] = str(file.relative_to(root))
    return found


def test_every_import_is_declared(root):
    missing = {
        name: file for name, file in imported(root).items() if name not in declared(root) | OPTIONAL
    }
    assert missing == {}


def test_every_dependency_has_its_reason_and_no_other_is_listed(root):
    page = (root / "CONTRIBUTING.md").read_text("utf-8").partition("## Dependencies")[2]
    page, _, _ = page.partition("Dropped:")
    rows = re.findall(r"^\| (`.*?`) \|", page, re.M)
    after = page.partition("For tests and workflows alone:")[2]
    listed = {plain(name) for row in [*rows, after] for name in re.findall(r"`([\w-]+)`", row)}
    assert listed == declared(root)
