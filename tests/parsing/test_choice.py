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


def test_where_a_server_is_asked_no_cluster_is_asked_for_gpus():
    def fail():
        raise AssertionError

    choice = ParserChoice(endpoint="http://h:1", endpoint_model="m", batch=7, endpoint_timeout=9)
    server = choice.config(fail).server
    assert (server.url, server.model) == ("http://h:1/v1", "m")
    assert (server.batch, server.timeout) == (7, 9)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"endpoint": "http://h"}, "--endpoint needs --endpoint-model NAME"),
        ({"endpoint_model": "m"}, "give --endpoint URL as well"),
        ({"endpoint": "http://h", "parser": "nltk"}, "--endpoint is asked by the LLM parser"),
        ({"endpoint": "http://h", "parser": "fake"}, "and --parser fake needs none"),
        ({"model": "smollm2"}, "--model is about an engine of one's own"),
        ({"tensor_parallel": 2}, "--tensor-parallel is about an engine of one's own"),
        ({"engine": ("seed=1",)}, "--engine is about an engine of one's own"),
        ({"batch_invariant": True}, "--batch-invariant is about an engine of one's own"),
    ],
)
def test_flags_that_do_not_go_together_are_told(flags, sentence):
    if "endpoint" not in flags and "endpoint_model" not in flags:
        flags = flags | {"endpoint": "http://h", "endpoint_model": "m"}
    with pytest.raises(UserError, match=sentence):
        ParserChoice(**flags).config(no_gpus)


def test_flags_of_an_engine_reach_it():
    choice = ParserChoice(device="gpu", model="a/b", batch_invariant=True, engine=("seed=1",))
    config = choice.config(no_gpus)
    assert config.batch_invariant
    assert config.engine == ("seed=1",)
