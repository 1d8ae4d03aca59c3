"""A value means the same in every format: text, bytes, nulls, lists, and what a key is called."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from parsing.source.readers import Row, Source


def read(*paths: object, **settings) -> list[Row]:
    return list(Source(tuple(map(str, paths)), **settings).rows())


def _plain(value):
    """A record for JSON, which has no bytes."""
    return value.decode() if isinstance(value, bytes) else value


def write_parquet(folder, records: list[dict]):
    names = list(records[0])
    table = pa.table({name: [record.get(name) for record in records] for name in names})
    pq.write_table(table, folder / "a.parquet")
    return folder / "a.parquet"


def write_jsonl(folder, records: list[dict]):
    lines = (json.dumps({name: _plain(value) for name, value in r.items()}) for r in records)
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder / "a.jsonl"


def write_hub(folder, records: list[dict]):
    (folder / "set").mkdir()
    write_parquet(folder / "set", records)
    return f"hf:{folder}/set"


def write_tar(path, members: list[tuple[str, bytes]]):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


WRITERS = (write_parquet, write_jsonl, write_hub)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("captions", "expected"),
    [
        (["one", None], ["one", ""]),
        ([b"one", b"zwei"], ["one", "zwei"]),
        ([None, None], ["", ""]),
        ([["one", "uno"], ["two"]], ["one", "uno", "two"]),
        ([["one", None], [], None], ["one", "", ""]),
        ([[{"raw": "one"}, {"raw": "uno"}]], ["one", "uno"]),
    ],
)
def test_text_bytes_nulls_and_lists_read_alike(tmp_path, write, captions, expected):
    path = write(tmp_path, [{"key": f"k{n}", "caption": c} for n, c in enumerate(captions)])
    rows = read(path)
    assert [row.caption for row in rows] == expected
    assert not any(row.problem for row in rows)
    lengths = [max(len(c), 1) if isinstance(c, list) else 1 for c in captions]
    lengths[0] -= isinstance(captions[0], list) and None in captions[0]
    assert [row.key for row in rows] == [
        f"k{n}" for n, size in enumerate(lengths) for _ in range(size)
    ]


@pytest.mark.parametrize("kind", [pa.float64(), pa.int64(), pa.null()])
def test_a_column_of_nulls_is_a_column_of_empty_captions_whatever_its_type(tmp_path, kind):
    """pandas writes a shard whose captions are all missing as doubles, pyarrow as nulls."""
    values = [float("nan"), None] if kind == pa.float64() else [None, None]
    for folder in ("a", "hub"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "a.parquet"
        pq.write_table(pa.table({"url": ["u", "v"], "caption": pa.array(values, kind)}), path)
    expected = [Row("u", ""), Row("v", "")]
    assert read(tmp_path / "a" / "a.parquet") == read(f"hf:{tmp_path}/hub") == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_(pa.binary()),
    ],
)
def test_every_type_of_list_is_several_captions(tmp_path, kind):
    captions = pa.array([["one", "uno"], ["two", "dos"]], kind)
    pq.write_table(pa.table({"key": ["a", "b"], "captions": captions}), tmp_path / "a.parquet")
    expected = [Row("a", "one"), Row("a", "uno"), Row("b", "two"), Row("b", "dos")]
    assert read(tmp_path / "a.parquet") == expected


def test_a_column_of_numbers_is_refused_also_behind_nulls(tmp_path):
    captions = pa.array([None] * 70_000 + [1.5])
    pq.write_table(pa.table({"caption": captions}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"column 'caption' of .* holds double, not text"):
        read(tmp_path / "a.parquet")


def test_a_file_of_no_rows_is_nothing_whatever_its_columns(tmp_path):
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    for name in ("b.jsonl", "c.tsv"):
        (tmp_path / name).write_bytes(b"")
    write_tar(tmp_path / "d.tar", [])
    assert read(*(tmp_path / name for name in ("a.parquet", "b.jsonl", "c.tsv", "d.tar"))) == []


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name", ["file_name", "image", "filename", "URL", "Image_Url", "__key__", "id"]
)
def test_usual_names_of_keys_are_known_in_any_case(tmp_path, write, name):
    path = write(tmp_path, [{"Text": "a dog", name: "0001.jpg"}])
    assert read(path) == [Row("0001.jpg", "a dog")]


def test_numbers_are_keys_as_people_write_them_and_empty_text_is_none(tmp_path):
    path = write_parquet(tmp_path, [{"id": 12.0, "caption": "a"}, {"id": None, "caption": "b"}])
    assert read(path) == [Row("12", "a"), Row(f"{path}:2", "b")]
    path = write_jsonl(
        tmp_path, [{"key": "", "url": "u", "caption": "a"}, {"key": "", "caption": "b"}]
    )
    assert read(path) == [Row("u", "a"), Row(f"{path}:2", "b")]


def test_an_image_is_no_key_but_its_file_name_is(tmp_path):
    """`imagefolder` takes `file_name` for itself and gives an image."""
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(png)
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "1.png", "text": "one"}\n{"file_name": "2.png", "text": "two"}\n'
    )
    expected = [Row("1.png", "one"), Row("2.png", "two")]
    assert read(f"hf:{folder}") == read(folder / "metadata.jsonl") == expected
    struct = pa.array([{"bytes": png, "path": None}])
    pq.write_table(pa.table({"image": struct, "caption": ["a"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == [Row(f"{tmp_path}/a.parquet:1", "a")]


def test_an_absent_key_column_is_announced_once_for_each_file(tmp_path):
    notes: list[tuple[str, str]] = []
    for write in WRITERS:
        path = str(write(tmp_path, [{"caption": "one"}, {"caption": "two"}]))
        list(Source((path,)).read(path, lambda *note: notes.append(note)))
    assert [kind for kind, _ in notes] == ["key"] * 3
    for _, note in notes:
        assert "has no key column" in note
        assert "give --key-column" in note


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "text"), [("a.tsv", "u\tone\n"), ("a.jsonl", '{"caption": "one"}\n')]
)
def test_byte_order_marks_other_than_utf8_are_refused_in_one_sentence(
    tmp_path, name, text, encoding
):
    path = tmp_path / name
    path.write_bytes(("\ufeff" + text).encode(encoding))
    with pytest.raises(
        UserError, match=rf"is {encoding[:6].upper()}, not UTF-8: convert it"
    ) as told:
        read(path)
    assert "\n" not in str(told.value)


def test_a_byte_order_mark_of_utf8_is_no_part_of_anything(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"url": "u", "caption": "one"}\n')
    assert read(path) == [Row("u", "one")]
    members = [("1.txt", b"\xef\xbb\xbfone"), ("2.json", b'\xef\xbb\xbf{"caption": "two"}')]
    members.append(("3.txt", "\ufeffthree".encode("utf-16-le")))
    rows = read(write_tar(tmp_path / "a.tar", members))
    assert rows[:2] == [Row("1", "one"), Row("2", "two")]
    assert rows[2].problem == "its .txt is not UTF-8 but UTF-16"
