"""JSONL files: fields, and lines that cannot be read."""

from __future__ import annotations

import pytest

from parsing.source.readers import Row
from tests.parsing.source.reading import read


def jsonl(tmp_path, *lines: bytes):
    path = tmp_path / "captions.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def test_jsonl_fields_are_found_as_columns_are(tmp_path):
    path = jsonl(
        tmp_path,
        b'{"image_id": 12, "caption": "one", "alt": "uno"}',
        b"",
        b'{"key": "", "caption": null}',
        b'{"alt": "tres", "caption": "three"}',
    )
    assert read(path) == [Row("12", "one"), Row(f"{path}:3", ""), Row(f"{path}:4", "three")]
    assert read(path, caption_column="alt")[:2] == [
        Row("12", "uno"),
        Row(f"{path}:3", "", "line 3: no field alt"),
    ]


@pytest.mark.parametrize(
    ("line", "caption", "problem"),
    [
        (b'{"caption": "cut o', '{"caption": "cut o', "not JSON"),
        (b"[1, 2]", "[1, 2]", "not a JSON object"),
        (b'"just text"', '"just text"', "not a JSON object"),
        (b'"\xed\xa0\x80"', '"\ufffd\ufffd\ufffd"', "not a JSON object"),
        (b"[" * 100_000, "[" * 100_000, "not JSON"),
        (b'{"caption": "caf\xe9"}', '{"caption": "caf\ufffd"}', "not UTF-8"),
        (b'{"caption": 5}', "5", "the field caption is not text"),
        (b'{"caption": {"a": 1}}', "{'a': 1}", "the field caption is not text"),
        (b'{"words": "a"}', "", "no field caption or text or txt or alt_text or captions"),
    ],
)
def test_a_spoilt_json_line_is_a_row_with_its_problem(tmp_path, line, caption, problem):
    path = jsonl(tmp_path, b'{"caption": "before"}', line, b'{"caption": "after"}')
    rows = read(path)
    assert [row.caption for row in rows] == ["before", caption, "after"]
    assert rows[1] == Row(f"{path}:2", caption, f"line 2: {problem}")


def test_half_a_surrogate_pair_becomes_a_question_mark_because_no_file_can_hold_it(tmp_path):
    path = jsonl(tmp_path, rb'{"key": "k\udc00", "caption": "a \ud83d dog \ud83d\ude00"}')
    assert read(path) == [Row("k?", "a ? dog \U0001f600")]
