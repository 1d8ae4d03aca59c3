from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import UserError
from labels.tag_folders import MANIFEST, open_tag_folders, same_captions, scan
from parsing.job.run_folder import RunFolder
from parsing.tags import Parsed, tags_table


def test_a_run_s_uncommitted_shards_are_missing(tmp_path, write_run, captions):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 1)], shards=4)
    (folder / "part-000002.json").unlink()  # written, but never committed
    with pytest.raises(UserError, match=r"unfinished: 1 of its 4 shards are missing.*--partial"):
        open_tag_folders([str(folder)])
    [tags] = open_tag_folders([str(folder)], partial=True)
    assert (tags.missing, tags.rows, len(tags.index)) == (1, 3, 1)


def test_a_committed_shard_whose_file_is_gone_is_missing(tmp_path, write_run, captions):
    folder = write_run(tmp_path / "tags", captions, [("a", 0), ("b", 1)], shards=2)
    (folder / "part-000001.parquet").unlink()
    with pytest.raises(UserError, match=r"unfinished: 1 of its 2 shards are missing"):
        open_tag_folders([str(folder)])
    (folder / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"cannot read .*part-000000\.parquet"):
        open_tag_folders([str(folder)], partial=True)


def test_a_run_whose_first_pass_is_not_over_is_unfinished(tmp_path, write_run, captions):
    folder = write_run(tmp_path / "tags", captions, [("a", 0)])
    (folder / "captions" / "done.json").unlink()
    assert open_tag_folders([str(folder)])[0].missing == 0  # the manifest knows, too
    (folder / "manifest.json").write_text(json.dumps({"finished": False}))
    with pytest.raises(UserError, match="not got far enough"):
        open_tag_folders([str(folder)], partial=True)


def test_a_bare_folder_needs_no_stats(tmp_path, write_tags, captions):
    [tags] = open_tag_folders([str(write_tags(tmp_path / "tags", captions, shards=2))])
    assert (tags.rows, tags.missing, tags.index) == (4, 0, ())


def test_one_file_is_a_folder_of_one(tmp_path, write_tags, captions):
    write_tags(tmp_path / "tags", captions)
    [tags] = open_tag_folders([str(tmp_path / "tags" / "part-000000.parquet")])
    assert tags.rows == 4


def test_folders_that_hold_no_tags_are_one_sentence(tmp_path, write_run, captions):
    with pytest.raises(UserError, match="there is no tags folder"):
        open_tag_folders([str(tmp_path / "nowhere")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no Parquet file in the tags folder"):
        open_tag_folders([str(tmp_path / "empty")])
    folder = write_run(tmp_path / "tags", captions, [("a", 0)])
    (folder / "part-000000.json").unlink()
    with pytest.raises(UserError, match="there is no committed shard"):
        open_tag_folders([str(folder)], partial=True)


def test_a_damaged_shard_is_named(tmp_path, write_tags, captions):
    folder = write_tags(tmp_path / "tags", captions, shards=2)
    (folder / "part-000001.parquet").write_bytes(b"PAR1 nothing else")
    with pytest.raises(UserError, match=r"cannot read .*part-000001\.parquet"):
        open_tag_folders([str(folder)])


@pytest.mark.parametrize("column", ["caption_id", "caption", "objects", "attributes"])
def test_a_missing_or_wrongly_typed_column_is_named(tmp_path, write_tags, captions, column):
    file = write_tags(tmp_path / "tags", captions) / "part-000000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.drop_columns([column]), file)
    with pytest.raises(UserError, match=f"part-000000.parquet has no column '{column}'"):
        open_tag_folders([str(file)])
    wrong = pa.array([1.5] * len(table))
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, wrong), file)
    with pytest.raises(UserError, match=f"column '{column}' of .* holds double"):
        open_tag_folders([str(file)])


def test_columns_of_kinds_that_are_not_asked_for_may_be_absent(tmp_path, write_tags, captions):
    file = write_tags(tmp_path / "tags", captions) / "part-000000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["attributes", "status", "raw"]), file)
    [tags] = open_tag_folders([str(file)], kinds=["object"])
    assert not tags.has_status


def test_a_wrong_index_is_named(tmp_path, write_run, captions):
    folder = write_run(tmp_path / "tags", captions, [("a", 0)])
    pq.write_table(
        pa.table({"key": [1], "caption_id": [0]}), folder / "index" / "part-000000.parquet"
    )
    with pytest.raises(
        UserError, match=r"column 'key' of .*index/part-000000\.parquet holds int64"
    ):
        open_tag_folders([str(folder)])


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("left", [0, 1])
def test_an_index_that_has_lost_images_is_told(tmp_path, write_run, captions, left, partial):
    """Without one, captions would be images that are called by the captions' ids."""
    images = [("a", 0), ("b", 1), ("c", 1)]
    folder = write_run(tmp_path / "tags", captions, images, index_files=2)
    for name in ("part-000000.parquet", "part-000001.parquet")[left:]:
        (folder / "index" / name).unlink()
    with pytest.raises(
        UserError, match=rf"has {2 * left} of its 3 images: .* writes the index again"
    ):
        open_tag_folders([str(folder)], partial=partial)


def test_a_shard_of_another_run_is_refused(tmp_path, write_run, captions):
    """Its caption ids are those of this run, its captions are not."""
    runs = []
    for name in ("one", "other"):
        runs.append(RunFolder(str(write_run(tmp_path / name, captions, [("a", 0)]))))
        (tmp_path / name / MANIFEST).write_text(
            json.dumps({"id": name, "fingerprint": {}, "finished": True, "shards": 1})
        )
        tags = tags_table([0], [f"a dog of {name}"], [Parsed(objects=["dog"])])
        runs[-1].commit(0, tags, {"rows": 1})
    folder = str(tmp_path / "one")
    assert open_tag_folders([folder])[0].rows == 1
    data = runs[1].folder.read("part-000000.parquet")
    runs[0].folder.write("part-000000.parquet", data)
    with pytest.raises(UserError, match=r"part-000000\.parquet is another run's, or another shard"):
        open_tag_folders([folder])


def test_runs_of_the_same_captions_are_found_and_others_are_not(tmp_path, write_run, captions):
    folders = []
    for name, files, size in (("a", 1, 10), ("b", 2, 10), ("c", 1, 20)):
        folders.append(write_run(tmp_path / name, captions, [("k", 0)]))
        done = folders[-1] / "captions" / "done.json"
        found = json.loads(done.read_text())
        done.write_text(json.dumps(found | {"selection": {"files": files, "shard_size": size}}))
    a, b, c = open_tag_folders(map(str, folders))
    assert same_captions([a, b]) is None
    assert same_captions([a, b, c]) == (a.name, c.name)


def test_ids_that_are_null_are_refused(tmp_path, write_tags, captions):
    file = write_tags(tmp_path / "tags", captions) / "part-000000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "caption_id", pa.array([0, None, 2, 3])), file)
    with pytest.raises(UserError, match=r"'caption_id' of .* holds nulls"):
        open_tag_folders([str(file)])


@pytest.mark.parametrize("statistics", [True, False])
def test_large_files_are_cut_at_their_row_groups(tmp_path, write_tags, captions, statistics):
    file = write_tags(tmp_path / "tags", captions * 5) / "part-000000.parquet"
    pq.write_table(pq.read_table(file), file, row_group_size=8, write_statistics=statistics)
    [tags] = open_tag_folders([str(file)])
    assert [(g.offset, g.rows, g.first_id, g.last_id) for g in tags.row_groups] == [
        (0, 8, 0, 7),
        (8, 8, 8, 15),
        (16, 4, 16, 19),
    ]
    assert scan(tags.row_groups[1:]).collect()["caption_id"].to_list() == list(range(8, 20))


def test_shards_may_differ_in_columns_that_are_not_read(tmp_path, write_tags, captions):
    folder = write_tags(tmp_path / "tags", captions, shards=2)
    file = folder / "part-000001.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["raw"]).append_column("x", [[1, 2]]), file)
    [tags] = open_tag_folders([str(folder)])
    assert scan(tags.row_groups).select("objects").collect().height == 4


@pytest.mark.parametrize("statistics", [True, False])
def test_a_huge_row_group_is_read_in_pieces(tmp_path, write_tags, monkeypatch, statistics):
    """Labelling a row group whole would take memory in proportion to it."""
    monkeypatch.setattr("labels.tag_folders.PIECE_ROWS", 7)
    order = [*range(15, 30), *range(15)]
    file = write_tags(tmp_path / "tags", [{}] * 30, order=order) / "part-000000.parquet"
    pq.write_table(pq.read_table(file), file, write_statistics=statistics)
    [tags] = open_tag_folders([str(file)])
    assert [(g.offset, g.rows, g.first_id, g.last_id) for g in tags.row_groups] == [
        (0, 7, 15, 21),
        (7, 7, 22, 28),
        (14, 7, 0, 29),
        (21, 7, 6, 12),
        (28, 2, 13, 14),
    ]
    assert scan(tags.row_groups).collect()["caption_id"].to_list() == order


def test_null_ids_are_refused_in_pieces_too(tmp_path, write_tags, captions, monkeypatch):
    monkeypatch.setattr("labels.tag_folders.PIECE_ROWS", 1)
    file = write_tags(tmp_path / "tags", captions) / "part-000000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "caption_id", pa.array([0, None, 2, 3])), file)
    with pytest.raises(UserError, match=r"'caption_id' of .* holds nulls"):
        open_tag_folders([str(file)])


PAIR = pa.struct([("attribute", pa.string()), ("object", pa.string())])
TURNED = pa.struct([("object", pa.large_string()), ("attribute", pa.string_view())])
RED = {"attribute": "red", "object": "dog"}


def _file(path, ids, captions, objects, attributes):
    names = ("caption_id", "caption", "objects", "attributes")
    pq.write_table(pa.table([ids, captions, objects, attributes], names=names), path)


def test_files_of_other_types_and_of_nothing_but_empty_lists_are_read_alike(tmp_path):
    """pandas and pyarrow write lists that are all empty as lists of nulls."""
    nothing = pa.array([[], []], pa.list_(pa.null()))
    _file(tmp_path / "a.parquet", [0], ["x"], [["dog"]], pa.array([[RED]], pa.list_(PAIR)))
    nulls = pa.array([None, None], pa.null())
    _file(tmp_path / "b.parquet", pa.array([1, 2], pa.int32()), nulls, nothing, nothing)
    large = pa.array([["cat"]], pa.large_list(pa.large_string()))
    turned = pa.array([[RED]], pa.large_list(TURNED))
    _file(tmp_path / "c.parquet", pa.array([3], pa.uint64()), ["y"], large, turned)
    _file(tmp_path / "d.parquet", pa.array([4, 5]), ["z", ""], nulls, nulls)
    [tags] = open_tag_folders([str(tmp_path)])
    found = scan(tags.row_groups).collect()
    assert found["caption_id"].to_list() == list(range(6))
    assert found["objects"].to_list() == [["dog"], [], [], ["cat"], [], []]
    assert found["attributes"].to_list() == [[RED], [], [], [RED], [], []]
    assert found["caption"].to_list() == ["x", None, None, "y", "z", ""]
    for name in "bd":  # alone, too
        [tags] = open_tag_folders([str(tmp_path / f"{name}.parquet")])
        assert scan(tags.row_groups).collect()["objects"].to_list() == [[], []]


def test_ids_of_no_type_are_refused(tmp_path):
    nulls = pa.array([None], pa.null())
    _file(tmp_path / "a.parquet", nulls, ["x"], [["dog"]], pa.array([[]], pa.list_(PAIR)))
    with pytest.raises(UserError, match=r"column 'caption_id' of .* holds null, not int64"):
        open_tag_folders([str(tmp_path)])


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
