"""A build chooses the vocabulary and labels every caption as the obvious way does."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict

import numpy as np
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
