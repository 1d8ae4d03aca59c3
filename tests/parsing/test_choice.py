"""Flags choose a parser; what is open depends on the cluster."""

import pytest

from common.errors import UserError
from parsing.choice import PARSERS, ParserChoice


def no_gpus():
    return False


def test_the_default_is_a_large_model_with_gpus_and_the_student_without():
    assert ParserChoice().config(no_gpus).model.source == "tagalign-135m"
    assert ParserChoice().config(lambda: True).model.source == "lmsys/vicuna-33b-v1.3"
    assert ParserChoice(device="cpu").config(lambda: True).model.source == "tagalign-135m"


def test_the_cluster_is_asked_only_where_the_device_is_open():
    def fail():
        raise AssertionError

    assert ParserChoice(device="gpu").config(fail).gpu
    assert not ParserChoice(device="cpu", model="smollm2").config(fail).gpu
    assert ParserChoice(parser="nltk").config(fail).name == "nltk"


def test_every_parser_can_be_chosen(tmp_path):
    tags = tmp_path / "tags.txt"
    tags.write_text("dog\n")
    for name in PARSERS:
        assert ParserChoice(parser=name, tag_list=str(tags)).config(no_gpus).name == name


def test_tag2text_without_a_list_is_told():
    with pytest.raises(UserError, match="--parser tag2text needs --tag-list FILE"):
        ParserChoice(parser="tag2text").config(no_gpus)
