"""What every baseline does: it reads only captions that have words and are not too long."""

import pytest

from parsing.baselines.baseline import BaselineParser
from parsing.baselines.nltk_parser import NltkConfig
from parsing.baselines.spacy_parser import SpacyConfig
from parsing.baselines.tag2text_parser import Tag2TextConfig
from parsing.parser import Resources
from parsing.tags import Parsed


class Echo(BaselineParser):
    """Takes each caption for an object."""

    def read(self, caption):
        return Parsed([caption])


def test_captions_that_are_not_read_keep_their_place():
    answers = Echo().parse(["a dog", "", "a" * 20_000, "123 !!", "a cat"])
    assert [parsed.status for parsed in answers] == ["ok", "empty", "too_long", "empty", "ok"]
    assert [parsed.objects for parsed in answers] == [["a dog"], [], [], [], ["a cat"]]


def test_a_caption_that_is_not_read_says_why():
    empty, long = Echo().parse(["!!", "a" * 20_000])
    assert empty.error == "no word in it that could be a tag"
    assert long.error == "20000 characters; at most 10000 are parsed"


@pytest.fixture
def tag_list(tmp_path):
    path = tmp_path / "tags.txt"
    path.write_text("dog")
    return path


def test_every_baseline_holds_one_core_and_adds_nothing_to_the_manifest(tag_list):
    for config in (NltkConfig(), SpacyConfig(), Tag2TextConfig(tag_list)):
        assert config.resources() == Resources(cpus=1)
        assert config.about() == {}
