"""Caption readers: every format, and what is wrong with real files of it."""

from __future__ import annotations

import gc
import gzip
import io
import itertools
import json
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from common.flags import given
from parsing.run import parse_flags
from parsing.source.readers import Row, Source
from tests.parsing.source.packing import PACKERS


def read(*paths: object, **settings) -> list[Row]:
    return list(Source(tuple(map(str, paths)), **settings).rows())


# -- TSV -----------------------------------------------------------------------------------------


@pytest.fixture
def tsv(tmp_path):
    def write(data: bytes):
        path = tmp_path / "captions.tsv"
        path.write_bytes(data)
        return path

    return write


def test_tsv_lines_are_url_and_caption_as_written(tsv):
    path = tsv(b'https://a/1\t "A <PERSON>" \xe2\x80\x94 it\'s, \\n here\nhttps://a/2\t\n')
    assert read(path) == [
        Row("https://a/1", ' "A <PERSON>" — it\'s, \\n here'),
        Row("https://a/2", ""),
    ]


def test_windows_line_ends_a_byte_order_mark_and_a_missing_last_newline_are_no_part_of_it(tsv):
    assert read(tsv(b"\xef\xbb\xbfu1\tone\r\nu2\ttwo")) == [Row("u1", "one"), Row("u2", "two")]


def test_empty_tsv_lines_are_no_rows_but_count_as_lines(tsv):
    rows = read(tsv(b"u1\tone\n\n\r\nonly\n"))
    assert rows == [
        Row("u1", "one"),
        Row("only", "", "line 4: 1 column instead of url<TAB>caption"),
    ]


def test_lines_with_too_few_or_too_many_columns_keep_their_place_and_text(tsv):
    path = tsv(b"u1\n" + b"u2\ta\tb\tc\n" + b"\tno url\n" + b"\t\t\n")
    assert read(path) == [
        Row("u1", "", "line 1: 1 column instead of url<TAB>caption"),
        Row("u2", "a\tb\tc", "line 2: 4 columns instead of url<TAB>caption"),
        Row(f"{path}:3", "no url"),
        Row(f"{path}:4", "\t", "line 4: 3 columns instead of url<TAB>caption"),
    ]


def test_bytes_that_are_not_utf8_spoil_their_row_alone(tsv):
    rows = read(tsv(b"u1\tcaf\xe9 dog\nu2\ttwo\n"))
    assert rows == [Row("u1", "caf\ufffd dog", "line 1: not UTF-8"), Row("u2", "two")]


def test_control_characters_and_long_captions_pass_unchanged(tsv):
    text = "bell \x07 nul \x00 \x0b\x0c\x1c\x85\u2028 " + "x" * 100_000
    assert read(tsv(f"u1\t{text}\nu2\ttwo\n".encode())) == [Row("u1", text), Row("u2", "two")]


def test_real_captions_arrive_complete(shared):
    path = shared / "captions" / "cc3m_val_dev.tsv"
    expected = [line.split("\t") for line in path.read_text().split("\n")[:-1]]
    assert [[row.key, row.caption] for row in read(path)] == expected
    assert not any(row.problem for row in read(path))


# -- Parquet -------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path):
    def write(columns: dict, name: str = "captions.parquet", **options):
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write


def test_usual_parquet_columns_are_found_and_others_named(parquet):
    path = parquet({"url": ["u1", None], "text": ["one", "two"], "alt": ["uno", None]})
    assert read(path) == [Row("u1", "one"), Row(f"{path}:2", "two")]
    assert read(path, caption_column="alt", key_column="text") == [
        Row("one", "uno"),
        Row("two", ""),
    ]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_string_type_of_parquet_is_text(parquet, kind):
    captions = pa.array(["one", "one", None]).cast(kind)
    path = parquet({"key": pa.array([7, 8, 9]), "caption": captions})
    assert read(path) == [Row("7", "one"), Row("8", "one"), Row("9", "")]


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_parquet_string_that_is_not_utf8_spoils_its_row_alone(parquet, dictionary):
    raw = pa.array([b"one", b"caf\xe9", None, b"four"], pa.binary())
    captions = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    if dictionary:
        captions = captions.dictionary_encode()
    path = parquet({"key": ["a", "b", "c", "d"], "caption": captions})
    assert read(path) == [
        Row("a", "one"),
        Row("b", "caf\ufffd", "row 2: not UTF-8"),
        Row("c", ""),
        Row("d", "four"),
    ]


def test_rows_are_numbered_across_row_groups(parquet):
    path = parquet({"caption": [f"c{n}" for n in range(10)]}, row_group_size=3)
    assert read(path) == [Row(f"{path}:{n + 1}", f"c{n}") for n in range(10)]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {},
            r"no usual caption column in .*captions.parquet \(it has a, b\): give --caption-column",
        ),
        (
            {"caption_column": "c"},
            r"captions.parquet has no column 'c' \(it has a, b\): see --caption",
        ),
        ({"caption_column": "b", "key_column": "k"}, r"has no column 'k' .*: see --key-column"),
        ({"caption_column": "a"}, r"column 'a' of .* holds int64, not text"),
    ],
)
def test_a_wrong_parquet_column_is_named(parquet, settings, sentence):
    path = parquet({"a": [1], "b": ["x"]})
    with pytest.raises(UserError, match=sentence):
        read(path, **settings)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_parquet_file_is_told_in_one_sentence(parquet, share):
    path = parquet({"key": ["u"] * 9000, "caption": [f"number {n}" for n in range(9000)]})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot read .*captions.parquet \(damaged") as told:
        read(path)
    assert "\n" not in str(told.value)


def test_a_parquet_file_damaged_in_its_middle_is_told_and_not_skipped(parquet):
    texts = [f"{n * 7919 % 10007} words" for n in range(50_000)]
    path = parquet({"caption": texts}, row_group_size=10_000, compression="zstd")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = os.urandom(4000)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read .*captions.parquet"):
        read(path)


def test_real_alt_texts_arrive_complete(shared):
    path = shared / "captions" / "alttext_dev.parquet"
    table = pq.read_table(path)
    rows = read(path)
    assert [row.caption for row in rows] == [text or "" for text in table["TEXT"].to_pylist()]
    assert [row.key for row in rows] == table["URL"].to_pylist()


# -- JSONL ---------------------------------------------------------------------------------------


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


# -- webdataset ----------------------------------------------------------------------------------


def tar(path, members: list[tuple[str, bytes]], mode: str = "w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, text: str) -> list[tuple[str, bytes]]:
    record = {"caption": f"json of {text}", "alt": f"alt of {text}"}
    return [
        (f"{key}.jpg", os.urandom(3000)),
        (f"{key}.txt", text.encode()),
        (f"{key}.json", json.dumps(record).encode()),
    ]


def test_a_sample_has_its_text_or_the_field_that_was_asked_for(tmp_path):
    members = [*sample("00000/001", "one\n"), *sample("00000/002", "two")]
    path = tar(tmp_path / "a.tar", members)
    assert read(path) == [Row("00000/001", "one"), Row("00000/002", "two")]
    assert [row.caption for row in read(path, caption_column="alt")] == [
        "alt of one\n",
        "alt of two",
    ]
    without_text = tar(tmp_path / "b.tar", [m for m in members if not m[0].endswith(".txt")])
    assert [row.caption for row in read(without_text)] == ["json of one\n", "json of two"]
    assert [row.key for row in read(without_text)] == ["00000/001", "00000/002"]


@pytest.mark.parametrize("order", ["images first", "texts first"])
def test_a_tar_whose_members_are_sorted_by_kind_has_one_row_a_sample(tmp_path, order):
    members = [m for n in range(5) for m in sample(f"{n}", f"text {n}")[:2]]
    members.sort(key=lambda member: member[0].endswith(".txt") == (order == "images first"))
    path = tar(tmp_path / "a.tar", members)
    assert read(path) == [Row(f"{n}", f"text {n}") for n in range(5)]


def test_samples_that_cannot_be_read_are_rows_with_their_problem(tmp_path):
    path = tar(
        tmp_path / "a.tar",
        [
            ("1.jpg", b"x"),
            ("2.txt", b"caf\xe9"),
            ("3.json", b"{cut"),
            ("4.json", b'["list"]'),
            ("5.json", b'{"width": 3}'),
            ("6.txt", b"fine"),
        ],
    )
    assert read(path) == [
        Row("2", "caf\ufffd", "its .txt is not UTF-8"),
        Row("3", "{cut", "its .json: not JSON"),
        Row("4", '["list"]', "its .json: not a JSON object"),
        Row("5", "", "its .json: no field caption or text or txt or alt_text or captions"),
        Row("6", "fine"),
        Row("1", "", "no .txt and no .json beside the image"),
    ]
    assert "could hold the field alt" in read(path, caption_column="alt")[-2].problem


@pytest.mark.parametrize("where", ["header", "image", "text"])
def test_a_truncated_tar_is_told_wherever_it_is_cut(tmp_path, where):
    path = tar(tmp_path / "a.tar", [m for n in range(9) for m in sample(f"{n}", "a dog")])
    with tarfile.open(path) as archive:
        members = {m.name: m for m in archive}
    at = {
        "header": members["5.jpg"].offset + 100,
        "image": members["5.jpg"].offset_data + 1000,
        "text": members["5.txt"].offset_data + 2,
    }
    path.write_bytes(path.read_bytes()[: at[where]])
    with pytest.raises(UserError, match=r"cannot read .*a.tar \(damaged, cut off"):
        read(path)


def test_a_damaged_header_does_not_pass_for_the_end_of_a_tar(tmp_path):
    path = tar(tmp_path / "a.tar", [m for n in range(9) for m in sample(f"{n}", "a dog")])
    with tarfile.open(path) as archive:
        at = archive.getmember("5.jpg").offset
    data = bytearray(path.read_bytes())
    data[at + 148 : at + 156] = b"garbage!"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot read .*a.tar"):
        read(path)


def test_a_tar_of_many_samples_is_not_kept_in_memory(tmp_path):
    path = tar(tmp_path / "a.tar", [(f"{n}.txt", b"a dog") for n in range(3_000)])
    rows = Source((str(path),)).rows()
    first = next(rows)
    gc.collect()
    list(itertools.islice(rows, 2_000))
    gc.collect()
    members = sum(isinstance(each, tarfile.TarInfo) for each in gc.get_objects())
    assert first == Row("0", "a dog")
    assert members < 100


def test_a_compressed_tar_is_read(tmp_path):
    assert read(tar(tmp_path / "a.tar.gz", sample("1", "one"), "w:gz")) == [Row("1", "one")]


# -- Hugging Face data sets ----------------------------------------------------------------------


@pytest.fixture
def data_set(tmp_path):
    folder = tmp_path / "my_captions"
    folder.mkdir()
    pq.write_table(
        pa.table({"url": ["u1", "u2"], "caption": ["one", None], "n": [1, 2]}),
        folder / "train-0.parquet",
    )
    (folder / "test.jsonl").write_text('{"url": "u9", "caption": "nine", "n": 9}\n')
    return folder


def test_a_hugging_face_data_set_is_read_by_name_and_split(data_set, tmp_path):
    (data_set / "test.jsonl").unlink()
    assert read(f"hf:{data_set}") == [Row("u1", "one"), Row("u2", "")]
    with pytest.raises(UserError, match=r"cannot open the Hugging Face data set .*test"):
        read(f"hf:{data_set}", split="test")
    lines = tmp_path / "lines"
    lines.mkdir()
    (lines / "test.jsonl").write_text('{"text": "nine"}\n{"text": "ten"}\n')
    assert read(f"hf:{lines}", split="test") == [
        Row(f"hf:{lines}:1", "nine"),
        Row(f"hf:{lines}:2", "ten"),
    ]


def test_the_columns_of_a_data_set_are_checked_like_those_of_a_file(data_set):
    (data_set / "test.jsonl").unlink()
    with pytest.raises(UserError, match=r"has no column 'alt' \(it has url, caption, n\)"):
        read(f"hf:{data_set}", caption_column="alt")
    with pytest.raises(UserError, match=r"column 'n' of hf:.* holds int64, not text"):
        read(f"hf:{data_set}", caption_column="n")


def test_a_data_set_that_is_not_there_is_told_in_one_sentence(capfd):
    with pytest.raises(
        UserError, match="cannot open the Hugging Face data set nobody/nothing"
    ) as e:
        read("hf:nobody/nothing")
    assert "\n" not in str(e.value)


# -- sources -------------------------------------------------------------------------------------


def test_files_are_read_in_the_order_given_and_sorted_within_a_glob(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.tsv").write_text(f"{name}\tcaption {name}\n")
    rows = read(tmp_path / "c.tsv", tmp_path / "[ab].tsv")
    assert [row.key for row in rows] == ["c", "a", "b"]


def test_captions_that_are_named_several_times_are_joined_and_replace_the_default():
    for flags in (["a", "--captions", "b", "c"], ["a", "b", "--captions", "c"]):
        source = Source(**given(parse_flags(["--captions", *flags]), Source))
        assert source.paths == ("a", "b", "c")
    assert Source(**given(parse_flags([]), Source)).paths == ("data/captions",)


@pytest.mark.parametrize("within", ["list", "fixed list", "record"])
def test_a_text_that_is_not_utf8_spoils_its_own_row_alone_within_lists_and_records(
    tmp_path, within
):
    texts = pa.array([b"a dog", b"caf\xe9", b"a cat"])
    texts = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    if within == "record":
        texts = pa.StructArray.from_arrays([texts], ["text"])
    lists = pa.ListArray.from_arrays([0, 1, 2, 3], texts)
    if within == "fixed list":
        lists = pa.FixedSizeListArray.from_arrays(texts, 1)
    pq.write_table(pa.table({"url": ["1", "2", "3"], "caption": lists}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")
    assert rows[::2] == [Row("1", "a dog"), Row("3", "a cat")]
    assert rows[1].problem == "row 2: not UTF-8"


def test_two_parquet_columns_of_one_name_are_told(tmp_path):
    columns = [pa.array(["https://a/1"]), pa.array(["a dog"]), pa.array(["a cat"])]
    pq.write_table(pa.table(columns, names=["url", "caption", "caption"]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet has two columns 'caption': give one of them"):
        read(tmp_path / "a.parquet")


def test_a_file_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.tsv").write_text("https://a/1\ta dog\n")
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for again in ("a.tsv", "*.tsv", tmp_path, "link/a.tsv", f"file://{tmp_path}/a.tsv"):
        with pytest.raises(UserError, match="is named twice: name every input once"):
            read("a.tsv", again)
    with pytest.raises(UserError, match="is named twice"):
        read("hf:.", "hf:.")


@pytest.mark.parametrize("ending", PACKERS)
def test_a_compressed_tsv_reads_like_itself(tmp_path, ending):
    path = tmp_path / f"captions.tsv{ending}"
    path.write_bytes(PACKERS[ending](b"u1\tone\n" * 1000))
    assert read(path) == [Row("u1", "one")] * 1000


@pytest.mark.parametrize("ending", PACKERS)
def test_a_truncated_or_damaged_compressed_file_is_told(tmp_path, ending):
    path = tmp_path / f"captions.tsv{ending}"
    lines = (f"u{n}\ta dog and {n * 7919} cats\n".encode() for n in range(9999))
    packed = PACKERS[ending](b"".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"cannot read .*captions.tsv"):
        read(path)
    # In the middle only where the format has check sums; else as much as makes no sense.
    at = len(packed) // 2 if ending in (".gz", ".bz2", ".xz") else 0
    path.write_bytes(packed[:at] + b"\xff" * 100 + packed[at + 100 :])
    with pytest.raises(UserError, match=r"cannot read .*captions.tsv"):
        read(path)


def test_a_format_can_be_given_where_the_name_does_not_tell(tmp_path):
    path = tmp_path / "captions.dat"
    path.write_text("u1\tone\n")
    assert read(path, format="tsv") == [Row("u1", "one")]
    with pytest.raises(UserError, match=r"cannot read .*captions.dat \(damaged, .* another format"):
        read(path, format="parquet")


def test_a_remote_file_is_read_like_a_local_one(tmp_path, memory):
    tar(tmp_path / "a.tar", sample("1", "one"))
    pq.write_table(pa.table({"caption": ["two"]}), tmp_path / "b.parquet")
    memory.pipe_file("/far/a.tar", (tmp_path / "a.tar").read_bytes())
    memory.pipe_file("/far/b.parquet", (tmp_path / "b.parquet").read_bytes())
    memory.pipe_file("/far/c.tsv.gz", gzip.compress(b"u3\tthree\n"))
    rows = read("memory://far/a.tar", "memory://far/b.parquet", "memory://far/*.gz")
    assert [row.caption for row in rows] == ["one", "two", "three"]
    with pytest.raises(UserError, match=r"there are no captions at memory://far/d.tsv"):
        read("memory://far/d.tsv")


def test_the_identity_is_that_of_the_files_and_of_how_they_are_read(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.tsv").write_text("u\tone\n")
    source = Source((str(tmp_path / "old" / "*.tsv"),))
    identity = source.identity()
    assert str(tmp_path) not in json.dumps(identity)
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert Source(("a.tsv",)).identity() == identity
    assert Source(("a.tsv",), caption_column="alt").identity() != identity
    (tmp_path / "new" / "a.tsv").write_text("u\tone more\n")
    assert Source(("a.tsv",)).identity() != identity
    assert Source(("a.tsv",), format="tsv").identity() == Source(("a.tsv",)).identity()
    assert Source((f"hf:{tmp_path}/new",)).identity() == Source(("hf:.",)).identity()
    assert Source(("hf:.",)).identity() != Source(("hf:.",), split="test").identity()
