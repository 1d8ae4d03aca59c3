"""Figures while a run goes on: in its folder, whatever happens to it, and in Ray's metrics."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

from common.storage import Folder
from parsing.job import cluster, metrics
from parsing.job.metrics import FILE, Metrics, read_metrics


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(metrics, "LINE_SECONDS", 0.0)


def test_a_line_says_what_has_been_done_and_what_there_is(tmp_path):
    written = Metrics(Folder(tmp_path), began=100.0, committed=50, failed=2)
    written.update(captions=10, tokens=60, queued=3, engines=2, actor_seconds=7200)
    written.committed(25, 1)
    written.expect(1000)
    written.update(captions=30, tokens=180, queued=0, engines=1, actor_seconds=9000)
    written.close()
    first, second, last = read_metrics(Folder(tmp_path))
    assert first["start"] == 100.0
    assert (first["captions"], first["tokens"], first["queued"], first["engines"]) == (10, 60, 3, 2)
    assert (first["committed"], first["failed"], first["total"]) == (50, 2, None)
    assert (second["committed"], second["failed"], second["total"]) == (75, 3, 1000)
    assert second["actor_hours"] == 2.5
    assert first["time"] <= second["time"] <= last["time"] <= time.time() + 0.001  # rounded


def test_figures_of_a_dead_engine_are_not_taken_back(tmp_path):
    written = Metrics(Folder(tmp_path), began=0)
    written.update(30, 180, 0, 1, 0)
    written.update(20, 100, 0, 1, 0)
    assert read_metrics(Folder(tmp_path))[-1]["captions"] == 30


def test_starts_follow_each_other_in_one_file_and_a_cut_line_spoils_no_other(tmp_path):
    Metrics(Folder(tmp_path), began=1.0).update(5, 0, 0, 1, 0)
    with open(tmp_path / FILE, "a") as file:
        file.write('{"time": 3, "start": 1.0, "capt')  # killed while it was written
    Metrics(Folder(tmp_path), began=2.0).update(7, 0, 0, 1, 0)
    assert [(line["start"], line["captions"]) for line in read_metrics(Folder(tmp_path))] == [
        (1.0, 5),
        (2.0, 7),
    ]


def test_a_store_without_appending_gets_the_whole_file(memory):
    for began in (1.0, 2.0):
        written = Metrics(Folder("memory://run"), began)
        written.update(5, 0, 0, 1, 0)
        written.close()
    assert [line["start"] for line in read_metrics(Folder("memory://run"))] == [1.0, 1.0, 2.0, 2.0]


def test_figures_that_cannot_be_written_do_not_end_the_run(tmp_path):
    written = Metrics(Folder(tmp_path), began=0)
    (tmp_path / FILE).mkdir()  # root may write anywhere else
    written.update(5, 0, 0, 1, 0)
    written.close()


def test_a_folder_without_metrics_has_no_lines(tmp_path):
    assert read_metrics(Folder(tmp_path)) == []
    (tmp_path / FILE).write_text('[]\n1\nnot json\n{"time": 1}\n')
    assert read_metrics(Folder(tmp_path)) == []


@pytest.mark.cluster
def test_ray_serves_the_figures_to_prometheus(tmp_path):
    with cluster.connected(cluster.LOCAL):
        import ray

        written = Metrics(Folder(tmp_path / "tags-7"), began=0, failed=4)
        node = ray.nodes()[0]
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        wanted = {
            'tagalign_captions_total{run="tags-7"} 30.0',
            'tagalign_output_tokens_total{run="tags-7"} 180.0',
            'tagalign_failures_total{run="tags-7"} 1.0',
            'tagalign_queue{run="tags-7"} 3.0',
            'tagalign_engines{run="tags-7"} 2.0',
        }
        written.committed(10, 1)
        end, found = time.monotonic() + 240, set()
        while found != wanted and time.monotonic() < end:
            written._told = 0.0
            written.update(30, 180, 3, 2, 0)
            with urllib.request.urlopen(address, timeout=10) as answer:
                lines = [
                    line for line in answer.read().decode().splitlines() if "tagalign_" in line
                ]
            found = {_plain(line) for line in lines if not line.startswith("#")} & wanted
            time.sleep(1)
        assert found == wanted, json.dumps(lines, indent=1)


def _plain(line: str) -> str:
    """A line of Prometheus's format with our label alone."""
    name, _, rest = line.partition("{")
    labels, _, value = rest.rpartition("} ")
    ours = [label for label in labels.split(",") if label.startswith("run=")]
    return f"{name.removeprefix('ray_')}{{{','.join(ours)}}} {value}"
