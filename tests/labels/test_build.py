from __future__ import annotations

import errno
import os
import unicodedata
from collections import Counter, defaultdict
from unittest import mock

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import UserError
from labels.build import build
from labels.reader import Labels
from labels.settings import Settings
from labels.vocabulary import Vocabulary

KINDS = ("object", "attribute")


def reference(rows, k, min_count=1, stop=(), synonyms=None):
    """The obvious way: a Counter and dictionaries."""
    synonyms = synonyms or {}

    def counted(kind, tags):
        tags = (unicodedata.normalize("NFC", tag) for tag in tags if tag and tag.strip())
        return {(kind, synonyms.get(tag, tag)) for tag in tags}

    tags = [
        counted("object", row["objects"] or [])
        | counted("attribute", (pair[0] for pair in row["attributes"] or [] if pair))
        for row in rows
    ]
    counts = Counter(tag for row in tags for tag in row)
    chosen = defaultdict(list)
    for (kind, tag), count in sorted(counts.items(), key=lambda item: (-item[1], item[0][1])):
        if tag not in stop and count >= min_count and len(chosen[kind]) < k:
            chosen[kind].append((kind, tag))
    vocabulary = [tag for kind in KINDS for tag in chosen[kind]]
    ids = {tag: i for i, tag in enumerate(vocabulary)}
    return [(*t, counts[t]) for t in vocabulary], [
        sorted(ids[t] for t in row if t in ids) for row in tags
    ]


TAG = st.sampled_from(
    ["a", "b", "c", "ab", "é", "e\u0301", "日本", "A", " a", "a\n", "", " ", None]
)
ROW = st.fixed_dictionaries(
    {
        "objects": st.none() | st.lists(TAG, max_size=6),
        "attributes": st.none() | st.lists(st.none() | st.tuples(TAG, TAG), max_size=5),
    }
)


@pytest.fixture(scope="session")
def run_build():
    """Builds without picture and page, which take longer than everything else together."""

    def run(path, **flags):
        notes = []
        with mock.patch("labels.build.draw", return_value=b"png"):
            given = {"out": str(path), "page": False} | flags
            summary, covered = build(Settings(**given), notes.append)
        return summary, covered, notes

    return run


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_it_gives_what_ten_lines_of_python_give(tmp_path_factory, write_tags, run_build, data):
    rows = data.draw(st.lists(ROW, min_size=1, max_size=20))
    k, min_count = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    stop = data.draw(st.sets(st.sampled_from(["a", "é", "ab"])))
    synonyms = data.draw(st.dictionaries(st.sampled_from(["b", "c"]), st.sampled_from(["a", "é"])))
    shards = data.draw(st.integers(1, len(rows)))
    order = data.draw(st.permutations(range(len(rows))))
    tmp_path = tmp_path_factory.mktemp("tags")
    folder = write_tags(tmp_path / "tags", rows, shards, order)
    (tmp_path / "stop").write_text("\n".join(stop))
    (tmp_path / "synonyms").write_text("\n".join(f"{a}\t{b}" for a, b in synonyms.items()))
    flags = {"k": k, "min_count": min_count, "tags": (str(folder),)}
    flags |= {"stop_tags": str(tmp_path / "stop"), "synonyms": (str(tmp_path / "synonyms"),)}
    vocabulary, ids = reference(rows, k, min_count, stop, synonyms)
    if not vocabulary:
        with pytest.raises(UserError, match="no tag"):
            run_build(tmp_path / "x.parquet", **flags)
        return
    run_build(tmp_path / "x.parquet", **flags)
    labels = Labels(tmp_path / "x.parquet")
    v = labels.vocabulary
    assert list(zip(v.kinds, v.tags, v.counts.tolist(), strict=True)) == vocabulary
    assert v.frequencies.tolist() == [count / len(rows) for _, _, count in vocabulary]
    assert [labels[str(i)].tolist() for i in range(len(rows))] == ids


def test_a_run_s_images_are_labelled_through_its_index(tmp_path, write_run, captions, run_build):
    images = [("u1", 0), ("u2", 1), ("u3", 0), ("u4", 3), ("u5", 2)]
    folder = write_run(tmp_path / "tags", captions, images, shards=2)
    summary, [one], _ = run_build(tmp_path / "x.parquet", tags=(str(folder),), k=10)
    labels = Labels(tmp_path / "x.parquet")
    v = labels.vocabulary
    named = lambda key: [v.tags[i] for i in labels[key]]  # noqa: E731
    assert list(v.tags) == ["girl", "bed", "car", "dog", "wall", "young", "red", "wooden"]
    assert v.counts.tolist() == [2, 1, 1, 1, 1, 2, 1, 1]  # red is twice in one caption: once
    assert labels.keys(range(5)) == ["u1", "u2", "u3", "u4", "u5"]
    assert named("u1") == named("u3") == ["girl", "bed", "young", "wooden"]
    assert named("u2") == ["car", "wall", "red"]
    assert named("u4") == []
    assert labels.captions([3, 4]) == ["untitled", captions[2]["caption"]]
    assert (one.images.rows, one.images.empty, one.captions.rows, one.captions.empty) == (
        5,
        1,
        4,
        1,
    )
    assert "5" in summary


def test_several_runs_follow_one_another(tmp_path, write_run, captions, run_build):
    a = write_run(tmp_path / "a", captions[:2], [("a0", 0), ("a1", 1)])
    b = write_run(tmp_path / "b", captions[2:], [("b1", 1), ("b0", 0)])
    run_build(tmp_path / "x.parquet", tags=(str(a), str(b)))
    labels = Labels(tmp_path / "x.parquet")
    assert labels.keys(range(4)) == ["a0", "a1", "b1", "b0"]
    assert labels.vocabulary.captions == 4
    assert labels.vocabulary.counts[0] == 2  # girl, once in each


def test_order_and_layout_change_nothing(tmp_path, write_run, captions, run_build):
    rows = [dict(c, caption=f"{c['caption']} {i}") for i in range(30) for c in captions]
    images = [(f"k{i}", (i * 7) % len(rows)) for i in range(200)]
    outs = []
    for number, (shards, files, order) in enumerate(
        [(1, 1, None), (7, 3, None), (5, 200, [*range(60, 120), *range(60)][::-1])]
    ):
        folder = write_run(tmp_path / f"tags{number}", rows, images, shards, files, order)
        run_build(tmp_path / f"{number}" / "x.parquet", tags=(str(folder),), k=3)
        outs.append({p.name: p.read_bytes() for p in (tmp_path / f"{number}").iterdir()})
    assert outs[0] == outs[1] == outs[2]
    assert sorted(outs[0]) == ["x.parquet", "x.png", "x.vocab.parquet", "x.vocab.txt"]


def test_a_sweep_writes_what_single_calls_write(tmp_path, write_tags, captions, run_build):
    folder = write_tags(tmp_path / "tags", captions * 3)
    flags = {"tags": (str(folder),)}
    _, covered, _ = run_build(tmp_path / "sweep.parquet", ks=(2, 1, 4), **flags)
    assert [one.paths[0] for one in covered] == [
        str(tmp_path / f"sweep.k{k}.parquet") for k in (1, 2, 4)
    ]
    for k in (1, 2, 4):
        run_build(tmp_path / f"one{k}.parquet", k=k, **flags)
        assert (tmp_path / f"sweep.k{k}.parquet").read_bytes() == (
            tmp_path / f"one{k}.parquet"
        ).read_bytes()
        assert Labels(tmp_path / f"sweep.k{k}.parquet").num_tags == k + min(k, 3)


def test_sizes_of_the_two_kinds_and_one_kind_alone(tmp_path, write_tags, captions, run_build):
    flags = {"tags": (str(write_tags(tmp_path / "tags", captions)),)}
    run_build(tmp_path / "a.parquet", k=2, k_attributes=1, **flags)
    v = Labels(tmp_path / "a.parquet").vocabulary
    assert list(zip(v.kinds, v.tags, strict=True)) == [
        ("object", "girl"),
        ("object", "bed"),
        ("attribute", "young"),
    ]
    run_build(tmp_path / "b.parquet", kinds="attribute", **flags)
    assert set(Labels(tmp_path / "b.parquet").vocabulary.kinds) == {"attribute"}


def test_new_captions_are_labelled_with_an_existing_vocabulary(
    tmp_path, write_tags, captions, run_build
):
    old = write_tags(tmp_path / "old", captions)
    new = write_tags(
        tmp_path / "new", [{"objects": ["bed", "unheard"], "attributes": [("red", "bed")]}]
    )
    run_build(tmp_path / "old.parquet", tags=(str(old),), k=3)
    before = Labels(tmp_path / "old.parquet").vocabulary
    for name in ("old.vocab.parquet", "old.parquet"):
        run_build(tmp_path / "new.parquet", tags=(str(new),), vocab=str(tmp_path / name))
        labels = Labels(tmp_path / "new.parquet")
        assert labels.vocabulary == before  # counts and frequencies stay those it was chosen by
        assert [before.tags[i] for i in labels["0"]] == ["bed", "red"]


def test_a_text_list_is_a_vocabulary_too(tmp_path, write_tags, captions, run_build):
    folder = write_tags(tmp_path / "tags", captions)
    (tmp_path / "list.txt").write_text("young\nunheard\ndog\ngirl\nred\n")
    flags = {"tags": (str(folder),), "vocab": str(tmp_path / "list.txt")}
    _, _, notes = run_build(tmp_path / "x.parquet", **flags)
    v = Labels(tmp_path / "x.parquet").vocabulary
    assert list(v.tags) == ["dog", "girl", "young", "red"]
    assert v.counts.tolist() == [1, 2, 2, 1]
    assert any("4 of the 5 tags" in note for note in notes)
    (tmp_path / "list.txt").write_text("unheard\n")
    with pytest.raises(UserError, match=r"no tag of .*list\.txt occurs in 4 captions"):
        run_build(tmp_path / "x.parquet", **flags)


def test_a_k_beyond_the_distinct_tags_takes_all_and_says_so(
    tmp_path, write_tags, captions, run_build
):
    folder = write_tags(tmp_path / "tags", captions)
    _, [one], notes = run_build(tmp_path / "x.parquet", tags=(str(folder),), k=4)
    assert len(one.vocabulary) == 4 + 3
    assert notes == ["K = 4 is more than the 3 distinct attributes: all of them are kept"]


def test_nulls_empty_and_endless_tags_harm_nothing(tmp_path, write_tags):
    endless = "x" * 10_000
    rows = [
        {"objects": [None, "", "dog", endless], "attributes": [None, (None, "dog"), ("", "dog")]},
        {"objects": None, "attributes": None, "caption": None},
    ]
    folder = write_tags(tmp_path / "tags", rows)
    _, [one] = build(Settings(tags=(str(folder),), out=str(tmp_path / "x.parquet")), lambda _: None)
    labels = Labels(tmp_path / "x.parquet")
    assert list(labels.vocabulary.tags) == ["dog", endless]
    assert labels["0"].tolist() == [0, 1]
    assert labels.captions([1]) == [""]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert one.vocabulary.ids("attribute").tolist() == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"k": 0}, "--k must be at least 1, not 0"),
        ({"k_objects": 0}, "--k-objects must be at least 1"),
        ({"ks": (100, -1)}, "--ks must be at least 1"),
        ({"ks": (1,), "k": 2}, "--ks and --k exclude"),
        ({"min_count": 0}, "--min-count must be"),
        ({"kinds": "verb"}, "--kinds is"),
        ({"out": "labels"}, r"must name a \.parquet"),
        ({"vocab": "x.parquet", "k": 3}, "cannot be combined with --k"),
        ({"vocab": "x.parquet", "stop_tags": "y"}, "cannot be combined with --stop-tags"),
        ({"vocab": "x.parquet", "kinds": "object"}, "leave out --kinds"),
        ({"kinds": "object", "k_attributes": 5}, "--kinds object excludes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        Settings(**flags)


def test_nothing_changes_where_the_labelling_fails(tmp_path, write_run, captions, run_build):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 3)])
    out = tmp_path / "out" / "x.parquet"
    run_build(out, tags=(str(folder),))
    before = {p.name: p.read_bytes() for p in out.parent.iterdir()}
    write_run(folder, captions, [("a", 0), ("b", 9)])
    with pytest.raises(UserError, match="holds caption 9"):
        run_build(out, tags=(str(folder),), k=1)
    assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == before


def test_the_written_vocabulary_is_polars_readable(tmp_path, write_tags, captions, run_build):
    run_build(tmp_path / "x.parquet", tags=(str(write_tags(tmp_path / "tags", captions)),), k=1)
    assert pl.read_parquet(tmp_path / "x.vocab.parquet").rows() == [
        (0, "girl", "object", 2, 0.5),
        (1, "young", "attribute", 2, 0.5),
    ]


def _files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("call", [1, 4, 9, 15, 22, 27, 29, 33])
def test_a_disk_error_at_any_moment_leaves_every_earlier_file(
    tmp_path, write_tags, captions, run_build, monkeypatch, call
):
    """Also between two K: an old label file beside a new vocabulary would be refused."""
    flags = {"tags": (str(write_tags(tmp_path / "tags", captions)),), "ks": (1, 2)}
    out = tmp_path / "out" / "x.parquet"
    run_build(out, **flags)
    before = _files(out.parent)
    calls, fsync, replace = [], os.fsync, os.replace

    def failing(real):
        def wrapper(*args):
            calls.append(args)
            if len(calls) == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args)

        return wrapper

    monkeypatch.setattr(os, "fsync", failing(fsync))
    monkeypatch.setattr(os, "replace", failing(replace))
    with pytest.raises(UserError, match=rf"no room left in {out.parent}: free some space"):
        run_build(out, **flags | {"min_count": 2})
    monkeypatch.undo()
    assert _files(out.parent) == before
    assert {Labels(out.parent / f"x.k{k}.parquet").num_tags for k in (1, 2)} == {2, 4}


def test_a_picture_that_cannot_be_drawn_costs_no_labels(tmp_path, write_tags, captions, run_build):
    folder = write_tags(tmp_path / "tags", captions)
    out = tmp_path / "out" / "x.parquet"
    run_build(out, tags=(str(folder),))
    notes: list[str] = []
    with mock.patch("labels.build.draw", side_effect=RuntimeError("no fonts\nat all")):
        _, [one] = build(Settings(tags=(str(folder),), out=str(out), k=1), notes.append)
    assert Labels(out).num_tags == 2
    assert "the picture could not be drawn (no fonts): there is none" in notes
    assert not (out.parent / "x.png").exists()
    assert one.paths[:2] == [str(out), str(out.with_name("x.vocab.parquet"))]
    assert str(out.with_name("x.png")) not in one.paths


def test_label_files_go_to_a_url(tmp_path, write_tags, captions, run_build, memory, monkeypatch):
    """Through fsspec, which `memory://` stands for; a protocol that nobody knows is refused."""
    monkeypatch.chdir(tmp_path)
    flags = {"tags": (str(write_tags(tmp_path / "tags", captions)),)}
    run_build(tmp_path / "here" / "x.parquet", k=2, **flags)
    _, [one, _], _ = run_build("memory://bucket/labels/x.parquet", ks=(2, 3), **flags)
    assert one.paths[0] == "memory://bucket/labels/x.k2.parquet"
    here = (tmp_path / "here" / "x.parquet").read_bytes()
    assert memory.cat_file("/bucket/labels/x.k2.parquet") == here
    assert memory.exists("/bucket/labels/x.k3.vocab.parquet")
    with pytest.raises(UserError, match="cannot open the folder nowhere://bucket"):
        run_build("nowhere://bucket/x.parquet", **flags)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "tags"]
    with pytest.raises(UserError, match=r"s3://b/x\.parquet: copy it"):
        Settings(vocab="s3://b/x.parquet")
    with pytest.raises(
        UserError, match=r"there is no label file .*: copy it to a local disk first"
    ):
        Labels("memory://bucket/labels/x.k2.parquet")


def test_a_folder_that_is_named_twice_is_told(tmp_path, write_tags, captions, run_build):
    folder = write_tags(tmp_path / "tags", captions, shards=2)
    (tmp_path / "link").symlink_to(folder)
    for again in (folder, tmp_path / "link", f"{folder}/", folder / "part-000001.parquet"):
        with pytest.raises(UserError, match=r"part-00000\d\.parquet is read twice, for --tags"):
            run_build(tmp_path / "x.parquet", tags=(str(folder), str(again)))
    assert not (tmp_path / "x.parquet").exists()


def test_caption_ids_that_begin_anew_in_every_file_are_told(tmp_path, write_tags, run_build):
    rows = [{"caption_id": i % 3, "caption": f"c{i}", "objects": ["x"]} for i in range(6)]
    folder = write_tags(tmp_path / "tags", rows, shards=2)
    with pytest.raises(UserError, match=r"caption 0 is twice in .*must not begin anew in a file"):
        run_build(tmp_path / "x.parquet", tags=(str(folder),))


@pytest.mark.parametrize("at_once", [1, 1000])
def test_one_key_of_two_folders_with_different_captions_is_told(
    tmp_path, write_run, captions, run_build, monkeypatch, at_once
):
    """img2dataset numbers every download from 0; an image that both have is one image."""
    monkeypatch.setattr("labels.keys._AT_ONCE", at_once)
    a = write_run(tmp_path / "a", captions[:2], [("0", 0), ("1", 1), ("https://u", 0)])
    b = write_run(tmp_path / "b", captions[1:], [("2", 0), ("1", 0), ("https://u", 1)])
    flags = {"tags": (str(a), str(b))}
    _, _, notes = run_build(tmp_path / "x.parquet", **flags)
    assert "1 images have several captions, as 'https://u' has: each caption is a row" in notes
    write_run(b, captions[1:], [("2", 0), ("1", 1)])
    with pytest.raises(UserError, match=r"the image '1' is in .*/a and in .*/b with different cap"):
        run_build(tmp_path / "x.parquet", **flags)
    assert len(Labels(tmp_path / "x.parquet")) == 6


def test_several_captions_of_one_image_are_rows_and_told(tmp_path, write_run, captions, run_build):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 1), ("a", 2), ("b", 1)])
    _, _, notes = run_build(tmp_path / "x.parquet", tags=(str(folder),))
    assert "1 images have several captions, as 'a' has: each caption is a row" in notes
    assert Labels(tmp_path / "x.parquet").keys(range(4)) == ["a", "b", "a", "b"]


def test_blank_tags_are_none_and_two_spellings_of_unicode_are_one(tmp_path, write_tags, run_build):
    whole, apart = "caf\u00e9", "cafe\u0301"
    rows = [
        {"objects": [whole, apart, " ", "\n\t"], "attributes": [(apart, whole), (" ", apart)]},
        {"objects": [apart]},
        {"objects": ["bar"]},
    ]
    folder = str(write_tags(tmp_path / "tags", rows))
    run_build(tmp_path / "x.parquet", tags=(folder,))
    labels = Labels(tmp_path / "x.parquet")
    assert list(labels.vocabulary.tags) == [whole, "bar", whole]
    assert labels.vocabulary.counts.tolist() == [2, 1, 1]
    assert [labels[str(i)].tolist() for i in range(3)] == [[0, 2], [0], [1]]
    (tmp_path / "stop").write_text(apart)
    run_build(tmp_path / "x.parquet", tags=(folder,), stop_tags=str(tmp_path / "stop"))
    assert list(Labels(tmp_path / "x.parquet").vocabulary.tags) == ["bar"]
    (tmp_path / "synonyms").write_text(f"{apart}\tbar")
    run_build(tmp_path / "x.parquet", tags=(folder,), synonyms=(str(tmp_path / "synonyms"),))
    assert Labels(tmp_path / "x.parquet").vocabulary.counts.tolist() == [3, 1]
    old = Vocabulary([apart], ["object"], np.array([2]), 3)
    pq.write_table(old.table(), tmp_path / "old.vocab.parquet")
    run_build(tmp_path / "y.parquet", tags=(folder,), vocab=str(tmp_path / "old.vocab.parquet"))
    assert [Labels(tmp_path / "y.parquet")[str(i)].tolist() for i in range(3)] == [[0], [0], []]


@pytest.mark.cluster
def test_ray_gives_the_identical_files(tmp_path, write_run, captions, run_build, monkeypatch):
    monkeypatch.setattr("labels.images.BATCH_ROWS", 10)
    rows = [dict(c, caption=f"{c['caption']} {i}") for i in range(10) for c in captions]
    images = [(f"k{i}", (i * 7) % len(rows)) for i in range(80)]
    folder = write_run(tmp_path / "tags", rows, images, shards=8)
    found = []
    for name, ray in (("here", None), ("ray", "local")):
        run_build(tmp_path / name / "x.parquet", tags=(str(folder),), k=3, ray=ray)
        found.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
