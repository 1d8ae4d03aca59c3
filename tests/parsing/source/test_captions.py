"""The pass over the input: unique captions, their ids, the index, and what makes a pass the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from common.storage import Folder
from parsing.source import captions as module
from parsing.source.captions import (
    CAPTIONS,
    DONE,
    INDEX,
    Counts,
    SeenCaptions,
    Selection,
    hash_captions,
    read_shard,
    unique_captions,
    write_caption_shards,
)
from parsing.source.readers import Row, Source


def flat(rows: list[Row], **settings) -> tuple[list[Row], list[int], list[bool]]:
    """The batches of `unique_captions`, joined."""
    kept, ids, fresh = [], [], []
    for batch, batch_ids, batch_fresh in unique_captions(rows, **settings):
        assert batch_ids.dtype == np.int64
        assert len(batch) == len(batch_ids) == len(batch_fresh) > 0
        kept += batch
        ids += batch_ids.tolist()
        fresh += batch_fresh.tolist()
    return kept, ids, fresh


def reference(rows: list[Row], limit: int | None = None):
    """What `unique_captions` says, by a dictionary and a loop."""
    seen: dict = {}
    kept, ids, fresh = [], [], []
    for row in rows:
        if len(seen) == limit:
            break
        name = (row.caption, None) if row.problem is None else (row.key, row.problem)
        fresh.append(name not in seen)
        ids.append(seen.setdefault(name, len(seen)))
        kept.append(row)
    return kept, ids, fresh


ROWS = st.lists(
    st.builds(
        Row,
        key=st.sampled_from(["a", "b", "c"]),
        caption=st.sampled_from(["", "a dog", "a cat", "a Dog", " a dog", "犬", "\0", "x" * 999]),
        problem=st.sampled_from([None, None, None, "not UTF-8", "not JSON"]),
    ),
    max_size=60,
)


@given(ROWS, st.integers(1, 9), st.none() | st.integers(1, 12))
def test_ids_are_those_of_a_dictionary_whatever_the_batches(rows, batch_rows, limit):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BATCH_ROWS", batch_rows)
        patch.setattr(module, "SMALL_BATCH_ROWS", batch_rows)
        assert flat(rows, limit=limit) == reference(rows, limit)


def test_many_captions_over_many_batches(monkeypatch):
    """Enough batches for every kind of merge of the sorted runs."""
    monkeypatch.setattr(module, "BATCH_ROWS", 1_000)
    numbers = np.random.default_rng(0).zipf(1.2, 50_000) % 20_000
    rows = [Row(str(n), f"caption {number}") for n, number in enumerate(numbers.tolist())]
    assert flat(rows) == reference(rows)


def test_a_limit_stops_reading_its_source(monkeypatch):
    """A data set of the hub is not read to its end for a thousand captions."""
    read = []

    def rows():
        for n in range(10**9):
            read.append(n)
            yield Row(str(n), f"caption {n}")

    kept, ids, _ = flat(rows(), limit=700)
    assert ids == list(range(700))
    assert [row.key for row in kept] == [str(n) for n in range(700)]
    assert len(read) < 10_000


def test_a_sample_is_the_same_captions_in_every_order_and_of_the_size_asked_for():
    rows = [Row(str(n), f"caption {n % 20_000}") for n in range(40_000)]
    kept, ids, _ = flat(rows, sample=0.25)
    chosen = {row.caption for row in kept}
    assert len(chosen) == pytest.approx(5_000, rel=0.05)
    assert len(kept) == 2 * len(chosen), "an image of a chosen caption is missing"
    assert sorted(set(ids)) == list(range(len(chosen)))
    assert {row.caption for row in flat(rows[::-1], sample=0.25)[0]} == chosen
    assert chosen <= {row.caption for row in flat(rows, sample=0.5)[0]}
    assert flat(rows, sample=1.0) == flat(rows)
    assert flat(rows, sample=0.25, limit=10)[0] == kept[:10]


def test_the_hash_of_a_caption_is_the_same_on_every_machine():
    """`--sample` and with it every output depend on it; xxh3-128 of the UTF-8 bytes."""
    hashes = hash_captions(["", "a dog", "犬"])
    assert hashes.shape == (3, 2)
    assert hashes.dtype == np.uint64
    assert f"{hashes[0, 0]:016x}{hashes[0, 1]:016x}" == "99aa06d3014798d86001c324468d497f"
    assert hash_captions([]).shape == (0, 2)


def test_hashes_that_agree_by_half_are_two_captions():
    seen = SeenCaptions()
    assert seen.find(np.zeros((2, 2), np.uint64)).tolist() == [-1, -1]
    seen.add(np.array([[5, 1]], np.uint64), np.array([7]))
    assert seen.find(np.array([[5, 1], [5, 2], [6, 1]], np.uint64)).tolist() == [7, -1, -1]


# -- the pass ------------------------------------------------------------------------------------


@pytest.fixture
def tsv(tmp_path) -> Path:
    lines = [f"u{n}\tcaption {n % 23}" for n in range(50)]
    lines.insert(10, "one column")
    path = tmp_path / "input" / "captions.tsv"
    path.parent.mkdir()
    path.write_text("\n".join(lines) + "\n")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_shards_and_index_join_back_to_the_input(tsv, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 8)
    monkeypatch.setattr(module, "INDEX_ROWS", 20)
    folder = Folder(tmp_path / "run")
    seen: list[int] = []
    source = Source((str(tsv),))
    counts = write_caption_shards(folder, source, Selection(shard_size=10), seen.append)
    assert counts == Counts(images=51, captions=24, malformed=1, shards=3)
    assert seen == [8, 16, 24, 32, 40, 48, 51]
    shards = [read_shard(folder.sub("captions"), n) for n in range(3)]
    assert [len(shard) for shard in shards] == [10, 10, 4]
    assert all(shard.schema.equals(CAPTIONS) for shard in shards)
    captions = pa.concat_tables(shards).to_pylist()
    assert [row["caption_id"] for row in captions] == list(range(24))
    index_folder = folder.sub("index")
    parts = [index_folder.read_table(name) for name in index_folder.names()]
    assert len(parts) > 1
    assert all(part.schema.equals(INDEX) for part in parts)
    joined = [
        Row(
            row["key"],
            captions[row["caption_id"]]["caption"],
            captions[row["caption_id"]]["problem"],
        )
        for row in pa.concat_tables(parts).to_pylist()
    ]
    assert joined == list(source.rows())


def test_a_second_pass_reads_nothing_and_counts_the_same(tsv, tmp_path, monkeypatch):
    folder, source = Folder(tmp_path / "run"), Source((str(tsv),))
    counts = write_caption_shards(folder, source, Selection())
    before = contents(tmp_path / "run")
    monkeypatch.setattr(Source, "rows", lambda self: pytest.fail("the input was read again"))
    assert write_caption_shards(folder, source, Selection()) == counts
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("after", [1, 2, 5])
def test_an_interrupted_pass_made_again_leaves_the_files_of_an_undisturbed_one(
    tsv, tmp_path, monkeypatch, after
):
    monkeypatch.setattr(module, "BATCH_ROWS", 8)
    monkeypatch.setattr(module, "INDEX_ROWS", 10)
    source, selection = Source((str(tsv),)), Selection(shard_size=10)
    write_caption_shards(Folder(tmp_path / "undisturbed"), source, selection)

    class Stopped(Exception):
        pass

    calls = []

    def stop(images: int) -> None:
        calls.append(images)
        if len(calls) == after:
            raise Stopped

    folder = Folder(tmp_path / "run")
    # The interrupted pass cut its captions into many more shards, which must not stay.
    with pytest.raises(Stopped):
        write_caption_shards(folder, source, Selection(shard_size=1), stop)
    assert not folder.sub("captions").exists(DONE)
    write_caption_shards(folder, source, selection)
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")


def test_data_that_was_moved_or_is_named_from_elsewhere_is_still_the_same(
    tsv, tmp_path, monkeypatch
):
    folder = Folder(tmp_path / "run")
    counts = write_caption_shards(folder, Source((str(tsv),)), Selection())
    tsv.parent.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    for paths in (("captions.tsv",), ("*.tsv",), (".",)):
        assert write_caption_shards(folder, Source(paths), Selection()) == counts


@pytest.mark.parametrize(
    ("source", "selection", "sentence"),
    [
        ({}, {"limit": 3}, "--limit differs"),
        ({}, {"sample": 0.5}, "--sample differs"),
        ({}, {"shard_size": 5}, "--shard-size differs"),
        ({"caption_column": "alt"}, {}, "--caption-column differs"),
        ({"key_column": "id"}, {}, "--key-column differs"),
        ({"paths": "other"}, {}, "names or sizes of the input files differ"),
        ({"paths": "rewritten"}, {}, "contents of the input files differ"),
        ({"paths": "longer"}, {}, "names or sizes of the input files differ"),
    ],
)
def test_a_folder_of_other_captions_is_refused_and_says_what_differs(
    tsv, tmp_path, source, selection, sentence
):
    folder = Folder(tmp_path / "run")
    write_caption_shards(folder, Source((str(tsv),)), Selection())
    before = contents(tmp_path / "run")
    other = tmp_path / "other.tsv"
    other.write_bytes(tsv.read_bytes())
    if source.get("paths") == "longer":
        tsv.write_bytes(tsv.read_bytes() + b"u51\tone more\n")
    if source.get("paths") == "rewritten":
        tsv.write_bytes(tsv.read_bytes().replace(b"caption 7", b"caption 8"))
    paths = (str(other if source.get("paths") == "other" else tsv),)
    with pytest.raises(UserError) as told:
        write_caption_shards(folder, Source(**source | {"paths": paths}), Selection(**selection))
    assert str(told.value) == (
        f"{folder.url} was begun with other captions ({sentence}): "
        "give the same again, or another --output"
    )
    assert contents(tmp_path / "run") == before


def test_a_pass_writes_to_a_remote_file_system_as_to_a_disk(tsv, tmp_path, memory):
    local, remote = Folder(tmp_path / "run"), Folder("memory://bucket/run")
    source, selection = Source((str(tsv),)), Selection(shard_size=10)
    assert write_caption_shards(remote, source, selection) == write_caption_shards(
        local, source, selection
    )
    for name in ("captions", "index"):
        files = local.sub(name).names()
        assert remote.sub(name).names() == files
        assert [remote.sub(name).read(f) for f in files] == [local.sub(name).read(f) for f in files]


def test_an_input_without_a_single_row_is_told_and_the_folder_stays_usable(tsv, tmp_path):
    empty = tmp_path / "empty.tsv"
    empty.write_text("\n\n")
    folder = Folder(tmp_path / "run")
    with pytest.raises(UserError, match=r"there are no captions in .*empty.tsv"):
        write_caption_shards(folder, Source((str(empty),)), Selection())
    assert write_caption_shards(folder, Source((str(tsv),)), Selection()).captions == 24


@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
@pytest.mark.parametrize("name", ["captions/part-000001.parquet", "index/part-000001.parquet"])
def test_parts_that_are_missing_or_cut_off_are_written_again(
    tsv, tmp_path, monkeypatch, name, damage
):
    monkeypatch.setattr(module, "BATCH_ROWS", 8)
    monkeypatch.setattr(module, "INDEX_ROWS", 20)
    folder, source, selection = (
        Folder(tmp_path / "run"),
        Source((str(tsv),)),
        Selection(shard_size=10),
    )
    counts = write_caption_shards(folder, source, selection)
    before = contents(tmp_path / "run")
    path = tmp_path / "run" / name
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(path.with_name("part-000002.parquet").read_bytes())
    notes: list[str] = []
    assert write_caption_shards(folder, source, selection, tell=notes.append) == counts
    assert contents(tmp_path / "run") == before
    assert "missing or damaged: they are written again" in notes[0]


def test_a_shard_that_is_damaged_within_is_told_and_written_again(tsv, tmp_path):
    folder, source = Folder(tmp_path / "run"), Source((str(tsv),))
    counts = write_caption_shards(folder, source, Selection(shard_size=10))
    before = contents(tmp_path / "run")
    path = tmp_path / "run" / "captions" / "part-000001.parquet"
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)  # the footer is whole and states as many rows as before
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"part-000001.parquet was damaged .* writes it again"):
        read_shard(folder.sub("captions"), 1)
    assert write_caption_shards(folder, source, Selection(shard_size=10)) == counts
    assert contents(tmp_path / "run") == before


def test_shards_are_announced_as_they_are_written(tsv, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_ROWS", 8)
    folder, source = Folder(tmp_path / "run"), Source((str(tsv),))
    events: list = []
    write_caption_shards(
        folder,
        source,
        Selection(shard_size=5),
        watch=lambda images: events.append("read on"),
        wrote=lambda shard: events.append(len(read_shard(folder.sub("captions"), shard))),
    )
    assert [each for each in events if each != "read on"] == [5, 5, 5, 5, 4]
    assert events.index(5) < events.index("read on")


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupted_pass_whose_shards_were_parsed_goes_on_with_the_same_captions_only(
    tsv, tmp_path, keep
):
    def stop(shard: int) -> None:
        raise KeyboardInterrupt

    folder, source = Folder(tmp_path / "run"), Source((str(tsv),))
    with pytest.raises(KeyboardInterrupt):
        write_caption_shards(folder, source, Selection(shard_size=5), wrote=stop)
    if not keep:
        assert write_caption_shards(folder, source, Selection(shard_size=7)).shards == 4
        return
    with pytest.raises(UserError, match=r"begun with other captions \(--shard-size differs\)"):
        write_caption_shards(folder, source, Selection(shard_size=7), keep=True)
    assert write_caption_shards(folder, source, Selection(shard_size=5), keep=True).shards == 5
    assert folder.sub("captions").names(".json") == [DONE]


def test_notes_are_told_once_for_many_files(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.tsv").write_text(f"url\tcaption\nhttps://a/{n}\ta dog\n")
    notes: list[str] = []
    source = Source((str(tmp_path / "*.tsv"),))
    write_caption_shards(Folder(tmp_path / "run"), source, Selection(), tell=notes.append)
    assert [note.partition(" has ")[2][:8] for note in notes] == ["a header"]


def test_a_damaged_done_file_is_told(tsv, tmp_path):
    folder, source = Folder(tmp_path / "run"), Source((str(tsv),))
    write_caption_shards(folder, source, Selection())
    done = tmp_path / "run" / "captions" / DONE
    assert json.loads(done.read_text())["counts"]["images"] == 51
    for text in ("{", "[]", "{}", '{"counts": {"images": 1}, "selection": {}}'):
        done.write_text(text)
        with pytest.raises(UserError, match=r"captions/done.json is damaged"):
            write_caption_shards(folder, source, Selection())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"limit": 0}, "--limit must be at least 1, not 0"),
        ({"sample": 0.0}, "--sample is a share between 0 and 1, not 0"),
        ({"sample": 1.5}, "--sample is a share between 0 and 1, not 1.5"),
        ({"sample": float("nan")}, "--sample is a share between 0 and 1, not nan"),
        ({"shard_size": 0}, "--shard-size must be at least 1, not 0"),
    ],
)
def test_a_selection_of_nothing_is_told(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Selection(**settings)
