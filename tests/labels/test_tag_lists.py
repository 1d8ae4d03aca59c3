from __future__ import annotations

import pytest

from common.errors import UserError
from labels.tag_lists import read_synonyms, read_tag_list


def test_a_list_skips_blanks_comments_and_repetitions(tmp_path):
    path = tmp_path / "tags.txt"
    path.write_bytes("\ufeff# people\nman\n\n  woman \r\nman\nhot dog\n".encode())
    assert read_tag_list(str(path)) == ["man", "woman", "hot dog"]


def test_synonyms_are_followed_to_their_end(tmp_path):
    path = tmp_path / "synonyms.tsv"
    path.write_text("auto\tautomobile\nautomobile\tcar\ncar\tcar\n")
    assert read_synonyms(str(path)) == {"auto": "car", "automobile": "car"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto car\n", "line 1 of .* is not"),
        ("a\tb\tc\n", "line 1 of .* is not"),
        ("a\tb\n# x\na\tc\n", "line 3 of .* gives 'a' a second synonym, 'c'"),
        ("a\tb\nb\tc\nc\ta\n", "cycle: a -> b -> c -> a"),
    ],
)
def test_synonyms_that_make_no_sense_name_the_line(tmp_path, text, message):
    path = tmp_path / "synonyms.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_synonyms(str(path))


def test_files_that_cannot_be_read_are_one_sentence(tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_tag_list(str(tmp_path / "latin"))
    with pytest.raises(UserError, match="there is no file"):
        read_tag_list(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot read"):
        read_tag_list(str(tmp_path))
