"""The command against a server that goes wrong: the same shards, the same resuming, the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parsing.status import main as status
from parsing.tags import OK
from tests.parsing.endpoint.faulty_server import FaultyServer

WEATHER = {"limit": 0.1, "crash": 0.05, "half": 0.05, "cut": 0.05}
KEY = "sk-very-secret"


def rows(folder: Path) -> list[dict]:
    return pa.concat_tables(map(pq.read_table, sorted(folder.glob("part-*.parquet")))).to_pylist()


@pytest.mark.cluster
def test_a_run_that_is_killed_and_a_server_that_stumbles_lose_no_row_and_double_none(
    root, tmp_path, capsys
):
    captions = tmp_path / "captions.tsv"
    lines = [f"https://a/{n}\ta green house number {chr(97 + n % 26) * 5}" for n in range(120)]
    captions.write_text("\n".join(lines) + "\n")
    server = FaultyServer(WEATHER, seed=7)
    server.key = KEY
    command = [sys.executable, "parsing/run.py", "--captions", captions, "--shard-size", "3"]
    command += ["--endpoint", server.url, "--endpoint-model", "small", "--prompt", "student"]
    command += ["--batch", "2", "--output", tmp_path / "tags"]
    environment = os.environ | {"OPENAI_API_KEY": KEY}
    environment.pop("RAY_ADDRESS", None)
    how = {"cwd": root, "env": environment, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    try:
        driver = subprocess.Popen(command, **how, start_new_session=True)
        end = time.monotonic() + 300
        while len(list((tmp_path / "tags").glob("part-*.json"))) < 3:
            assert driver.poll() is None, driver.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.05)
        driver.kill()
        driver.communicate()
        done = subprocess.run(command, **how, text=True, timeout=500, check=False)
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    assert "model small at http://127.0.0.1" in done.stdout
    found = rows(tmp_path / "tags")
    assert [row["caption_id"] for row in found] == list(range(26))
    assert {row["status"] for row in found} == {OK}
    assert all("house" in row["objects"] for row in found)
    assert server.met.total() > 0, "nothing went wrong"
    assert server.most <= 2 + 2  # those of the killed client may still be in work

    manifest = json.loads((tmp_path / "tags" / "manifest.json").read_text())
    assert manifest["endpoint"] == f"{server.url}/v1"
    assert len(manifest["sessions"]) == 2
    written = [path for path in (tmp_path / "tags").rglob("*") if path.is_file()]
    assert not any(KEY.encode() in path.read_bytes() for path in written)
    assert (tmp_path / "tags" / "metrics.jsonl") in written
    assert status([str(tmp_path / "tags")]) == 0
    said = capsys.readouterr().out
    assert "small: finished" in said
    assert "26 of 26 (100.0%) captions in 9 of 9 shards" in said
