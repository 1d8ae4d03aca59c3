"""Gold tags are read as their files mean them, and wrong files are named."""

import json

import pytest

from eval.parser_scores.gold import GoldCaption, read_gold, read_scene_graph
from parsing.errors import UserError


def test_a_scene_graph_gives_objects_and_attribute_object_pairs():
    graph = "( stove , is , white ) , ( stove , in , kitchen ) , ( dog , is , 2 ) , ( pole )"
    objects, attributes = read_scene_graph(graph)
    assert objects == ("stove", "kitchen", "dog", "pole")
    assert attributes == (("white", "stove"), ("2", "dog"))


def test_objects_of_every_predicate_but_is_are_objects():
    objects, attributes = read_scene_graph("( man , wear , hat ) , ( man , is , in black )")
    assert objects == ("man", "hat")
    assert attributes == (("in black", "man"),)


def test_an_empty_graph_has_no_tags():
    assert read_scene_graph("") == ((), ())


def test_factual_is_read_whole(shared):
    gold = read_gold(shared / "gold" / "factual_dev.csv")
    assert len(gold) == 1000
    assert gold[0] == GoldCaption(
        "white stove in a kitchen", ("stove", "kitchen"), (("white", "stove"),)
    )
    assert sum(len(item.objects) for item in gold) > 1800
    assert all(thing in item.objects for item in gold for _, thing in item.attributes)
    assert len(read_gold(shared / "gold" / "factual_dev.csv", limit=7)) == 7


def test_jsonl_takes_pairs_as_lists_and_as_objects(tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [
        {"caption": "a red car", "objects": ["car"], "attributes": [["red", "car"]]},
        {"caption": "a dog", "objects": [], "attributes": [{"attribute": "old", "object": "dog"}]},
    ]
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    assert read_gold(path) == [
        GoldCaption("a red car", ("car",), (("red", "car"),)),
        GoldCaption("a dog", ("dog",), (("old", "dog"),)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "gold.csv",
            "caption,graph\na,b\n",
            r"has no column `scene_graph` \(found: caption, graph\)",
        ),
        ("gold.csv", "text,scene_graph\na,b\n", "has no column `caption`"),
        ("gold.csv", "", r"has no column `caption` \(found: none\)"),
        ("gold.csv", "caption,scene_graph\n", "holds no captions"),
        ("gold.csv", "caption,scene_graph\na dog\n", "line 2: the row ends too early"),
        ("gold.txt", "a dog", "read from .csv"),
        ("gold.jsonl", "", "holds no captions"),
        ("gold.jsonl", "{", "line 1 is not JSON"),
        ("gold.jsonl", "[]", "line 1 is not a JSON object"),
        ("gold.jsonl", '{"caption": "a", "objects": []}', "has no `attributes`"),
        (
            "gold.jsonl",
            '{"caption": 3, "objects": [], "attributes": []}',
            "`caption` is not a string",
        ),
        ("gold.jsonl", '{"caption": "a", "objects": "b", "attributes": []}', "not a list"),
        ("gold.jsonl", '{"caption": "a", "objects": [1], "attributes": []}', "not a string"),
        ("gold.jsonl", '{"caption": "a", "objects": [], "attributes": ["b"]}', "other than"),
    ],
)
def test_wrong_files_are_named_in_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_gold(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.csv: No such file"):
        read_gold(tmp_path / "absent.csv")
    (tmp_path / "bytes.csv").write_bytes(b"caption,scene_graph\n\xff\xfe,\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_gold(tmp_path / "bytes.csv")
