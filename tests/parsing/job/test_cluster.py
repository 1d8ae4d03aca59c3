"""Folders that Ray cannot use are told in one sentence, with what to set."""

from __future__ import annotations

import pytest

from common.errors import UserError
from parsing.job.cluster import connected


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def _told() -> str:
    with pytest.raises(UserError) as told, connected(None):
        pytest.fail("a cluster was started")
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_a_temporary_folder_with_too_long_a_path_for_sockets_is_told(monkeypatch, tmp_path, name):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv(name, str(long))
    assert f"Ray's sockets have no room in {long}" in _told()
    assert "set RAY_TMPDIR to a folder with a short path, such as /tmp" in _told()


def test_a_home_that_cannot_be_written_to_is_told(monkeypatch):
    """Ray keeps the token of its own cluster there."""
    import ray
    from ray._private.authentication.authentication_token_setup import generate_and_save_token

    monkeypatch.setenv("HOME", "/dev/null/nobody")
    monkeypatch.setattr(ray, "init", lambda **_: generate_and_save_token())
    sentence = _told()
    assert sentence.startswith("Ray cannot write /dev/null/nobody/.ray (Not a directory): ")
    assert sentence.endswith("set HOME to a folder that can be written to")


def test_a_temporary_folder_that_cannot_be_written_to_is_told(monkeypatch, tmp_path):
    import ray

    def init(**_):
        (tmp_path / "none" / "ray").mkdir()

    monkeypatch.setattr(ray, "init", init)
    sentence = _told()
    assert f"Ray cannot write {tmp_path}/none/ray (No such file or directory): " in sentence
    assert "set RAY_TMPDIR to a folder that can be written to" in sentence


def test_no_temporary_folder_at_all_is_told(monkeypatch):
    def none(**_):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.mkstemp", none)
    assert "set TMPDIR to a folder that can be written to" in _told()
