"""The project as it is installed: what the wheel holds, and the command `tagalign` in a venv."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tagalign import cli
from tagalign.cli import COMMANDS, EXTRAS, main
from tagalign.cli import root as cli_root
from tests.labels.conftest import write_tags  # noqa: F401

ROOMS = ("common", "parsing", "prompts", "labels", "training", "eval", "workflows")
NOT_SHIPPED = (".md", ".png", ".sbatch")  # for a reader of the repository


def test_every_command_is_a_script_of_the_repository(root):
    for script, _ in COMMANDS.values():
        assert (root / script).is_file()


def test_help_paths_and_unknown_commands(capsys):
    assert main([]) == 0
    assert "tagalign parse" in capsys.readouterr().out
    assert main(["path", "train"]) == 0
    assert Path(capsys.readouterr().out.strip()) == cli_root() / "training" / "train.py"
    assert main(["path"]) == 0
    assert Path(capsys.readouterr().out.strip()) == cli_root()
    assert main(["sgement"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no command 'sgement'")
    assert main(["path", "nowhere"]) == 2


def test_a_command_whose_packages_are_not_installed_says_which_extra_has_them(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "PIL" else object())
    for extra, (commands, _) in EXTRAS.items():
        for name in commands:
            assert name in COMMANDS
            assert main([name, "--help"]) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"error: `tagalign {name}` needs packages")
            assert f"(PIL): run pip install '.[{extra}]'" in said
    assert cli.missing("parse") is None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, root) -> Path:
    """The project's wheel, built without network from a copy, which is `source` beside it."""
    place = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns(
        ".*", "data", "build", "*.egg-info", "__pycache__", "tests", "*.parquet"
    )
    shutil.copytree(root, place / "source", ignore=skip)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", place / "out", place / "source"], check=True, timeout=500
    )
    [path] = (place / "out").glob("*.whl")
    return path


def test_the_wheel_brings_one_name_and_every_file_of_the_rooms(wheel):
    source = wheel.parents[1] / "source"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        info = next(name for name in names if name.endswith("top_level.txt"))
        assert file.read(info).split() == [b"tagalign"]
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"tagalign"}
    for room in ROOMS:
        for path in (source / room).rglob("*"):
            relative = path.relative_to(source)
            skipped = path.suffix in NOT_SHIPPED or path.name in (".gitignore", "cluster.yaml")
            if path.is_file() and not _is_output(relative) and not skipped:
                assert f"tagalign/{relative.as_posix()}" in names


def _is_output(path: Path) -> bool:
    own = path.parts[0] == "labels" and path.suffix in (".parquet", ".txt", ".png", ".html")
    return own or "__pycache__" in path.parts or path.suffix == ".pyc"


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel) -> Path:
    """The `bin` folder of a venv with the wheel, which borrows the packages of the tests' own."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=300)
    python = place / "bin" / "python"
    own = next((place / "lib").glob("python*")) / "site-packages"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
    ]
    subprocess.run([*command, wheel], check=True, timeout=300)
    (own / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place / "bin"


def test_the_installed_command_makes_labels_from_anywhere(tmp_path, installed, write_tags):  # noqa: F811
    folder = write_tags(tmp_path / "tags", [{"objects": ["dog"]}, {"objects": ["dog", "cat"]}])
    flags = ["--tags", folder, "--out", tmp_path / "out" / "x.parquet", "--k", "1"]
    done = subprocess.run(
        [installed / "tagalign", "labels", *flags], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "x.html").is_file()
    done = subprocess.run(
        [installed / "tagalign", "labels", "--k", "0"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --k must be at least 1")


def test_no_room_is_a_package_of_its_own_where_the_wheel_is_installed(tmp_path, installed):
    code = (
        "import importlib.util, json, tagalign; "
        f"print(json.dumps([n for n in {ROOMS!r} if importlib.util.find_spec(n)]))"
    )
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    done = subprocess.run(
        [installed / "tagalign", "path", "train"], cwd=tmp_path, capture_output=True, text=True
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)
    assert Path(done.stdout.strip()).is_file()


def test_the_library_is_reached_through_its_path(tmp_path, installed):
    line = 'PYTHONPATH="$(./tagalign path)" ./python -c "from labels.reader import Labels; print(Labels)"'
    done = subprocess.run(line, shell=True, cwd=installed, capture_output=True, text=True)
    assert "labels.reader.Labels" in done.stdout, done.stderr
