"""Gold tags are read as their files mean them, and wrong files are named."""

import json

import pytest

from common.errors import UserError
from eval.parser_scores.gold import (
    GoldCaption,
    read_gold,
    read_gold_files,
    read_scene_graph,
    told_apart,
)

EMPTY = '{"caption": "a", "objects": [], "attributes": [], '


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


def test_what_one_could_argue_about_is_read_where_it_is_given(tmp_path):
    path = tmp_path / "gold.jsonl"
    row = {"caption": "red sunset", "objects": [], "attributes": []}
    pairs = [["red", "sunset"], {"attribute": "red", "object": "sunset"}]
    rows = [row, row | {"maybe": ["sunset", "sunset"], "maybe_attributes": pairs}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert read_gold(path) == [
        GoldCaption("red sunset", (), ()),
        GoldCaption("red sunset", (), (), ("sunset",), (("red", "sunset"),)),
    ]


def test_the_web_gold_is_read_whole(shared):
    gold = read_gold(shared / "gold" / "web_dev.jsonl")
    assert len(gold) == 500
    assert gold[0].objects == ("beavers", "dams")
    assert gold[0].maybe == ("residents",)
    assert sum(len(item.maybe) for item in gold) > 200
    assert sum(len(item.maybe_attributes) for item in gold) > 150


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
        ("gold.jsonl", '{"objects": [], "attributes": []}', "has no `caption`"),
        ("gold.jsonl", '{"caption": "a", "attributes": []}', "has no `objects`"),
        ("gold.jsonl", EMPTY + '"maybe": "b"}', "line 1: `maybe` is not a list"),
        ("gold.jsonl", EMPTY + '"maybe": null}', "`maybe` is not a list"),
        ("gold.jsonl", EMPTY + '"maybe": [["b"]]}', "`maybe` holds something that is not a string"),
        ("gold.jsonl", EMPTY + '"maybe_attributes": {}}', "`maybe_attributes` is not a list"),
        (
            "gold.jsonl",
            EMPTY + '"maybe_attributes": [["b"]]}',
            "`maybe_attributes` holds something",
        ),
        ("gold.jsonl", EMPTY + '"maybe_attributes": [["b", 1]]}', "other than .attribute, object."),
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


def test_several_files_are_read_apart_and_each_up_to_the_limit(tmp_path):
    for folder, captions in (("one", ["a", "b", "c"]), ("two", ["d"])):
        (tmp_path / folder).mkdir()
        rows = [{"caption": c, "objects": [], "attributes": []} for c in captions]
        (tmp_path / folder / "gold.jsonl").write_text("\n".join(map(json.dumps, rows)))
    paths = [tmp_path / "one" / "gold.jsonl", tmp_path / "two" / "gold.jsonl"]
    files = read_gold_files(paths, limit=2)
    assert [one.name for one in files] == ["one/gold.jsonl", "two/gold.jsonl"]
    assert [one.path for one in files] == [str(path) for path in paths]
    assert [[item.caption for item in one.captions] for one in files] == [["a", "b"], ["d"]]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["data/gold.jsonl"], ["gold.jsonl"]),
        (["a/web.jsonl", "b/factual.csv"], ["web.jsonl", "factual.csv"]),
        (
            ["a/x/gold.csv", "b/x/gold.csv", "a/web.csv"],
            ["a/x/gold.csv", "b/x/gold.csv", "web.csv"],
        ),
        (["gold.csv", "b/gold.csv", "/gold.csv"], ["gold.csv", "b/gold.csv", "/gold.csv"]),
        (["nltk", "s3://bucket/nltk/"], ["nltk", "bucket/nltk"]),
    ],
)
def test_names_are_as_short_as_tells_the_files_apart(paths, names):
    assert told_apart(paths) == names
