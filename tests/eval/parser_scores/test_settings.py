"""Settings check themselves, and configure the parsers that they name."""

import pytest

from common.errors import UserError
from eval.parser_scores.settings import Settings


def test_model_and_prompt_reach_the_llm_parser(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    settings = Settings(gold=("g.csv",), parsers=("llm",), model=str(model), prompt="absent.yaml")
    with pytest.raises(UserError, match=str(model)):
        settings.configs()
    (model / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"absent\.yaml"):
        settings.configs()


def test_one_gold_file_under_two_spellings_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.csv").symlink_to("gold.csv")
    for other in ("gold.csv", "./gold.csv", str(tmp_path / "gold.csv"), "link.csv"):
        with pytest.raises(UserError, match="is named twice") as caught:
            Settings(gold=("gold.csv", other), parsers=("nltk",))
        assert other in str(caught.value)
        assert "gold.csv" in str(caught.value)


def test_files_of_one_name_in_two_folders_are_two():
    assert len(Settings(gold=("a/gold.csv", "b/gold.csv"), parsers=("nltk",)).gold) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gold": ()}, "name gold files with --gold"),
        ({"parsers": ()}, "nothing to score"),
        ({"parsers": ("clip",)}, "there is no parser 'clip'"),
        ({"tags": ("a", "a")}, "the folder a is named twice"),
        ({"shown": -1}, "--shown must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        Settings(**{"gold": ("g.csv",), "parsers": ("nltk",)} | given)
