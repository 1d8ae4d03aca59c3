"""A run's fingerprint follows the code that makes tags, however indirectly, and nothing else."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from parsing import versions
from parsing.baselines.baseline import BaselineConfig
from parsing.baselines.nltk_parser import NltkConfig
from parsing.llm import questions
from parsing.llm.parser import LLMConfig
from parsing.versions import digest_of

FILES = {
    "reader.py": "from parsing import words\nimport re\nimport parsing.other\n",
    "words.py": "def split(text):\n    from parsing.deep.inner import WORD\n    return WORD\n",
    "deep/inner.py": "WORD = 1\nfrom parsing.reader import read\n",
    "other.py": "",
    "unrelated.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / "parsing" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "parsing" / name).write_text(text)
    monkeypatch.setattr(versions, "_PACKAGE", tmp_path / "parsing")
    return tmp_path / "parsing"


def module(package: Path, name: str) -> ModuleType:
    made = ModuleType(name)
    made.__file__ = str(package / f"{name}.py")
    return made


@pytest.mark.parametrize("name", ["reader.py", "words.py", "deep/inner.py", "other.py"])
def test_what_a_module_imports_counts_also_within_functions_and_in_circles(package, name):
    before = digest_of(module(package, "reader"))
    (package / name).write_text(FILES[name] + "\nchanged = True\n")
    assert digest_of(module(package, "reader")) != before


def test_what_a_module_does_not_import_does_not_count(package):
    before = digest_of(module(package, "reader"))
    (package / "unrelated.py").write_text("changed = True")
    assert digest_of(module(package, "reader")) == before


def test_a_function_counts_by_its_own_source(package):
    assert digest_of(module) != digest_of(digest_of)
    assert digest_of(module) == digest_of(module)


@pytest.mark.parametrize("library", ["simplemma", "regex"])
@pytest.mark.parametrize("config", [LLMConfig(), NltkConfig()], ids=["llm", "nltk"])
def test_another_dictionary_makes_another_run(monkeypatch, config, library):
    before, real = config.fingerprint(), versions.version
    newer = {library: "99.0"}
    monkeypatch.setattr(versions, "version", lambda name: newer.get(name) or real(name))
    after = config.fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"code"}


def test_all_that_stands_between_a_caption_and_its_tags_counts(root):
    counted = {
        file.relative_to(root / "parsing").as_posix()
        for file in versions._imported(Path(questions.__file__), set())
    }
    assert counted >= {
        "source/cleaning.py", "source/markup.py", "source/clutter.py", "words.py", "normalise.py",
        "llm/answers.py", "llm/constraint.py", "llm/prompt.py", "llm/questions.py",
    }  # fmt: skip
    assert not counted & {"llm/engine.py", "llm/models.py", "llm/parser.py"}


def test_a_baseline_counts_its_own_code():
    codes = {kind.__module__ for kind in BaselineConfig.__subclasses__()}
    assert "parsing.baselines.nltk_parser" in codes
    assert NltkConfig().fingerprint()["code"] != LLMConfig().fingerprint()["code"]
