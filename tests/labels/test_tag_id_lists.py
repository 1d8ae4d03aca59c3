"""The order of a list is what its ids mean, whatever stands beside the tags."""

from __future__ import annotations

import pytest

from common.errors import UserError
from labels.tag_id_lists import read_tags_by_id


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nball\n",
        "object\r\ncat\r\ndog\r\nball\r\n",
        "\ufeffcat\ndog\nball",
        ",0\n0,cat\n1,dog\n2,ball\n",
        "id,object,count\n2,ball,7\n0,cat,90\n1,dog,70\n",
        'cat,9\n"dog",8\nball,7\n\n',
        "tag,frequency\ncat,0.5\ndog,0.2\nball,0.1\n",
    ],
)
def test_a_csv_is_read_with_and_without_header_and_ids(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, "utf-8", newline="")
    assert read_tags_by_id(str(tmp_path / "list.csv")) == ["cat", "dog", "ball"]


def test_repetitions_and_blank_lines_keep_their_ids(tmp_path):
    (tmp_path / "list.txt").write_text("cat\n\ncat\n# ball\n\n\n")
    assert read_tags_by_id(str(tmp_path / "list.txt")) == ["cat", "", "cat", "# ball"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "is empty"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", b"1,2\n3,4\n5,6\n", "has no column of text"),
        ("a.csv", b'a"b,"c', "is no CSV"),
        ("a.txt", b"caf\xe9", "cannot read the list of tags"),
        ("a.txt", "cat".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_sentence(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_tags_by_id(str(tmp_path / name))
