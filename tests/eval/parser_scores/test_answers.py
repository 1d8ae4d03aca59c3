"""Answers of a folder of tags find their gold captions."""

import pyarrow as pa
import pytest

from common.errors import UserError
from common.storage import Folder
from eval.parser_scores.answers import ask, read_tags
from eval.parser_scores.gold import GoldCaption, GoldFile
from parsing.fake_parser import FakeConfig
from parsing.tags import Parsed, tags_table

GOLD = GoldFile(
    "gold.csv",
    "gold.csv",
    (GoldCaption("a red car", ("car",), ()), GoldCaption("a dog ", ("dog",), ())),
)
MORE = GoldFile("more.csv", "more.csv", (GoldCaption("a cat", ("cat",), ()),))


def write(folder, captions, parsed, part="part-000000"):
    Folder(str(folder)).write_table(
        f"{part}.parquet", tags_table(range(len(captions)), captions, parsed)
    )


def test_rows_are_found_by_caption_in_whatever_part_and_order(tmp_path):
    write(tmp_path, ["a cat", "a dog"], [Parsed(["cat"]), Parsed(["dog"])])
    write(tmp_path, ["a red car"], [Parsed(["car"], [("red", "car")])], "part-000001")
    answers, more = read_tags(str(tmp_path), [GOLD, MORE])
    assert [parsed.objects for parsed in answers.parsed] == [["car"], ["dog"]]
    assert answers.parsed[0].attributes == [("red", "car")]
    assert answers.rate is None
    assert [parsed.objects for parsed in more.parsed] == [["cat"]]


def test_the_rate_is_that_of_the_run_s_own_stats(tmp_path):
    write(tmp_path, ["a red car", "a dog"], [Parsed(), Parsed()])
    Folder(str(tmp_path)).write_json("part-000000.json", {"rows": 2, "seconds": 0.5})
    assert read_tags(str(tmp_path), [GOLD])[0].rate == 4


def test_gold_captions_without_tags_are_counted_and_named(tmp_path):
    write(tmp_path, ["a red car"], [Parsed()])
    with pytest.raises(
        UserError, match=r"no tags for 1 of 2 captions of gold\.csv, the first being 'a dog'"
    ):
        read_tags(str(tmp_path), [GOLD])


def test_the_gold_file_whose_captions_were_not_parsed_is_named(tmp_path):
    write(tmp_path, ["a red car", "a dog"], [Parsed(), Parsed()])
    with pytest.raises(UserError, match=r"no tags for 1 of 1 captions of more\.csv"):
        read_tags(str(tmp_path), [GOLD, MORE])


def test_a_folder_without_tags_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no tags"):
        read_tags(str(tmp_path / "absent"), [GOLD])


def test_a_damaged_part_is_named(tmp_path):
    (tmp_path / "part-000000.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"part-000000\.parquet cannot be read"):
        read_tags(str(tmp_path), [GOLD])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("objects"), "has no column `objects`"),
        (
            lambda t: t.set_column(
                t.schema.get_field_index("objects"), "objects", pa.array(["a"] * len(t))
            ),
            "column `objects` is string",
        ),
    ],
)
def test_a_wrong_column_is_named(tmp_path, change, message):
    table = change(tags_table([0], ["a dog"], [Parsed()]))
    Folder(str(tmp_path)).write_table("part-000000.parquet", table)
    with pytest.raises(UserError, match=message):
        read_tags(str(tmp_path), [GOLD])


def test_a_parser_asked_here_answers_every_caption_and_is_timed_per_gold_file():
    answers, more = ask(FakeConfig(seconds=0.01), [GOLD, MORE])
    assert (len(answers.parsed), len(more.parsed)) == (2, 1)
    for each in (answers, more):
        assert 1 < each.rate <= 100
        assert each.cold_start >= 0.01


def test_a_parser_that_cannot_start_ends_with_its_sentence():
    with pytest.raises(UserError, match="no such thing"):
        ask(FakeConfig(broken="no such thing"), [GOLD])
