"""Every check of the preflight, made to fail for real, and what the command says then."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from common.errors import UserError
from eval.datasets.benchmark_list import BENCHMARKS
from eval.datasets.referring import SPLITS
from parsing.llm.models import Model
from parsing.llm.parser import LLMConfig
from parsing.source.readers import Source
from tests.eval.datasets.miniatures import ade20k
from workflows.cc12m import preflight
from workflows.cc12m.checks.benchmarks import ALL, check_benchmarks, check_referring
from workflows.cc12m.checks.captions import READ, check_captions
from workflows.cc12m.checks.cluster import ask_cluster, check_cluster
from workflows.cc12m.checks.finding import FAILED, OK, WARNING, Finding, run_check
from workflows.cc12m.checks.images import check_images
from workflows.cc12m.checks.machine import (
    Card,
    Machine,
    check_gpus,
    check_versions,
    find_cards,
    names_of_interest,
    this_machine,
)
from workflows.cc12m.checks.model import Decoder, check_model
from workflows.cc12m.checks.output import check_output

GB = 10**9


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def only(findings, level: str) -> str:
    """The sentence of the one finding of that level."""
    found = [finding.sentence for finding in findings if finding.level == level]
    assert len(found) == 1, found
    return found[0]


# -- captions ------------------------------------------------------------------------------------


def captions_of(path: Path, text: str | bytes) -> list[Finding]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return run_check("captions", lambda: check_captions(Source((str(path),))))


def test_sound_captions_are_ok_and_counted(tmp_path):
    found = captions_of(tmp_path / "c.tsv", "u1\ta dog\nu2\ta red cat\n")
    assert levels(found) == [OK]
    assert found[0].sentence.startswith(
        "2 rows in 1 file, 2.5 words a caption; the first is 'a dog'"
    )


def test_a_large_tsv_s_rows_are_estimated_and_parquet_s_counted(tmp_path):
    rows = 3 * READ
    lines = [f"https://a/{n:07d}\ta dog number {n:07d}\n" for n in range(rows)]
    found = captions_of(tmp_path / "c.tsv", "".join(lines))
    assert f"about {rows:,} rows" in only(found, OK)
    table = pa.table({"url": ["u"] * rows, "caption": ["a dog"] * rows})
    pq.write_table(table, tmp_path / "c.parquet")
    found = run_check("captions", lambda: check_captions(Source((str(tmp_path / "c.parquet"),))))
    assert only(found, OK).startswith(f"{rows:,} rows")


@pytest.mark.parametrize(
    ("text", "level", "sentence"),
    [
        (b"", FAILED, "holds no row"),
        (b"u1\tcaf\xe9\n" * 5 + b"u2\ta dog\n", FAILED, "line 1: not UTF-8): mend the file"),
        (b"u1 a dog\nu2 a cat\n", FAILED, "1 column instead of url<TAB>caption"),
        ("u1\ta dog\n".encode("utf-16"), FAILED, "is UTF-16, not UTF-8: convert it first"),
        (b"u1\ta\0d\0o\0g\0\n", FAILED, "hold zero bytes"),
        (b"u1\ta dog\n" * 200 + b"u2\tcaf\xe9\n", WARNING, "each becomes a row with status"),
        (b"url\tcaption\nu1\ta dog\n", WARNING, "has a header: captions are in its column"),
        (b"a dog\thttps://a/1\n", WARNING, "has URLs in its second column"),
        (b"u1\t\nu2\t \nu3\ta dog\n", WARNING, "2 of the first 3 captions are empty"),
    ],
)
def test_captions_with_something_odd_are_named(tmp_path, text, level, sentence):
    found = captions_of(tmp_path / "c.tsv", text)
    assert any(sentence in one.sentence for one in found if one.level == level), found


def test_a_download_that_was_cut_off_is_noticed_at_its_end(tmp_path):
    lines = "".join(f"https://a/{n}\ta dog\n" for n in range(READ + 10))
    found = captions_of(tmp_path / "c.tsv", lines + "https://a/99")
    assert "was its download cut off?" in only(found, WARNING)


def test_missing_files_and_columns_are_failures(tmp_path):
    def failure(source: Source) -> str:
        return only(run_check("captions", lambda: check_captions(source)), FAILED)

    assert "there are no captions at" in failure(Source((str(tmp_path / "no.tsv"),)))
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"url": ["u"], "words": ["a dog"]}), path)
    assert "no usual caption column" in failure(Source((str(path),)))
    assert "has no column 'alt'" in failure(Source((str(path),), caption_column="alt"))
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot read" in failure(Source((str(path),)))


# -- output --------------------------------------------------------------------------------------


def test_a_new_output_folder_is_ok_and_is_not_made(tmp_path):
    found = run_check("output", lambda: check_output(str(tmp_path / "a" / "b"), 1000))
    assert levels(found) == [OK, OK]
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_a_failure_and_hardly_enough_a_warning(tmp_path):
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    found = run_check("output", lambda: check_output(str(tmp_path), free * 2))
    assert "GB free where the run needs about" in only(found, FAILED)
    found = run_check("output", lambda: check_output(str(tmp_path), free / 1.1))
    assert "free some space to be safe" in only(found, WARNING)


def test_a_full_disk_is_a_failure(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(OSError, match="No space left"):
            (disk / "ballast").write_bytes(b"0" * 100_000)
        found = run_check("output", lambda: check_output(str(disk / "tags"), None))
        assert "no room left in" in only(found, FAILED)
        assert [path.name for path in disk.iterdir()] == ["ballast"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_folders_that_a_run_would_refuse_are_failures(tmp_path):
    file = tmp_path / "file"
    file.touch()
    found = run_check("output", lambda: check_output(str(file / "tags"), None))
    assert "is a file" in only(found, FAILED)
    other = tmp_path / "other"
    other.mkdir()
    pq.write_table(pa.table({"a": [1]}), other / "x.parquet")
    found = run_check("output", lambda: check_output(str(other), None))
    assert "holds Parquet files but no run" in only(found, FAILED)
    copy = tmp_path / "runtime_resources" / "x"
    found = run_check("output", lambda: check_output(str(copy), None))
    assert "the copy that Ray makes" in only(found, FAILED)


def test_a_folder_that_another_run_writes_to_is_a_failure(tmp_path):
    from parsing.job.run_folder import RunFolder

    run = RunFolder(str(tmp_path))
    with run.opened({"parser": "fake"}):
        found = run_check("output", lambda: check_output(str(tmp_path), None))
        assert "another run is writing" in only(found, FAILED)
    found = run_check("output", lambda: check_output(str(tmp_path), None))
    assert "the same command goes on" in found[-1].sentence


def test_a_remote_folder_is_written_to(memory):
    found = run_check("output", lambda: check_output("memory://bucket/tags", 1e15))
    assert levels(found) == [OK, OK]
    assert memory.find("/") == []


# -- machine -------------------------------------------------------------------------------------

A100 = Card("NVIDIA A100-SXM4-80GB", 81_920 << 20, 0, "570.1")


@pytest.fixture(scope="module")
def here() -> Machine:
    return this_machine(names_of_interest())


@pytest.fixture
def node(here) -> Machine:
    """This machine with eight GPUs and the engine for them."""
    versions = here.versions | {"vllm": "0.32.0"}
    return replace(here, versions=versions, cards=(A100,) * 8, usable=8)


def test_this_machine_is_as_its_own_tests_need_it(here):
    assert levels(check_versions(here, gpus=False)) == [OK]
    assert here.versions["torch"] == version("torch")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"torch": "2.1.0"}, "torch 2.1.0 (needs >=2.13)"),
        ({"ray": "2.59.0"}, "ray 2.59.0 (needs ==2.60.0)"),
        ({"transformers": "4.57.0"}, "transformers 4.57.0"),
        ({"vllm": "0.30.1"}, "vllm 0.30.1 (needs ==0.32.*)"),
        ({"vllm": None}, "vllm is missing: install them with `make install EXTRA=gpu`"),
        ({"polars": None}, "polars is missing"),
    ],
)
def test_wrong_versions_are_named_with_the_range_they_need(node, changes, sentence):
    versions = {k: v for k, v in (node.versions | changes).items() if v is not None}
    found = list(check_versions(replace(node, versions=versions), gpus=True))
    assert sentence in only(found, FAILED)


def test_an_old_python_is_a_failure(node):
    found = list(check_versions(replace(node, python="3.10.2"), gpus=True))
    assert "Python 3.10.2 (needs >=3.11)" in only(found, FAILED)


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"cards": ()}, FAILED, "none found"),
        ({"usable": 0}, FAILED, "torch can use 0 of 8"),
        ({"usable": None}, FAILED, "torch cannot be imported"),
        ({"cards": (A100,), "usable": 1}, FAILED, "1 here, and one engine spans 2"),
        ({"cards": (A100,) * 3, "usable": 3}, WARNING, "1 of 3 stay idle"),
        ({"cards": (A100, replace(A100, name="T4")), "usable": 2}, WARNING, "of several kinds"),
        ({"cards": (A100, replace(A100, used=9 * GB)), "usable": 2}, WARNING, "GPU 1 already holds 9 GB"),
    ],
)  # fmt: skip
def test_gpus_that_do_not_do_are_named(node, changes, level, sentence):
    found = list(check_gpus(replace(node, **changes), tensor_parallel=2))
    assert sentence in only(found, level)


def test_eight_free_gpus_are_ok_and_none_are_asked_for_on_a_cpu_machine(node, here):
    assert "8 x NVIDIA A100-SXM4-80GB, 80.0 GiB each" in only(check_gpus(node, 2), OK)
    assert levels(check_gpus(here, 1, wanted=False)) == [OK]


def test_nvidia_smi_is_understood(tmp_path, monkeypatch):
    """As its manual lays it out; there is no driver here."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\nfor i in 1 2; do echo 'NVIDIA H100 80GB HBM3, 81559, 4, 550.54.15'; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    card = Card("NVIDIA H100 80GB HBM3", 81_559 << 20, 4 << 20, "550.54.15")
    assert find_cards() == (card, card)


def test_a_machine_survives_its_way_through_json(node):
    assert Machine.from_json(json.loads(json.dumps(node.to_json()))) == node


# -- cluster -------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_an_address_with_nobody_there_fails_in_seconds():
    address, began = f"127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at {address}"):
        ask_cluster(address, 60)
    assert time.monotonic() - began < 30


def test_something_else_that_listens_there_is_given_up_on():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="did not answer within 4 s"):
            ask_cluster(address, 4)


@pytest.mark.cluster
def test_a_real_cluster_is_asked_for_its_nodes(here, monkeypatch, tmp_path):
    port = free_port()
    link = Path(f"/tmp/p{os.getpid()}")  # Ray's sockets need short paths
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path)
    for name, value in (("MODE", "token"), ("TOKEN", "0123456789abcdef" * 4)):
        monkeypatch.setenv(f"RAY_AUTH_{name}", value)
    program = Path(sys.executable).with_name("ray")
    flags = ["start", "--head", "--block", "--num-cpus=1", f"--port={port}"]
    ray = subprocess.Popen(
        [program, *flags, "--include-dashboard=false", "--node-ip-address=127.0.0.1"],
        env=os.environ | {"RAY_TMPDIR": str(link)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert ray.poll() is None
            assert time.monotonic() < end
            time.sleep(0.3)
        address = f"127.0.0.1:{port}"
        assert ask_cluster(address, 120) == [here]
    finally:
        ray.terminate()
        ray.wait(timeout=60)
        link.unlink()


def test_what_a_cluster_lacks_is_named(node, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    head = replace(node, host="head", cards=(), usable=0)
    found = list(check_cluster("h:6379", [head, node], 2, gpus=True))
    assert levels(found) == [OK, OK]
    assert "2 nodes with 8 GPUs, authentication token" in found[0].sentence
    assert "room for 4 engines" in found[1].sentence
    found = list(check_cluster("h:6379", [head], 2, gpus=True))
    assert "no node has the 2 GPUs" in only(found, FAILED)
    old = replace(node, python="3.12.1", versions=node.versions | {"ray": "2.59.0"})
    found = [
        one.sentence for one in check_cluster("h:6379", [node, old], 2, True) if one.level == FAILED
    ]
    assert len(found) == 2
    assert "Python" in found[0]
    assert "Ray 2.59.0 and 2.60.0" in found[1]
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "anyone who reaches its ports" in only(check_cluster("h:6379", [node], 2, True), WARNING)


# -- model ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model's folder with a tokenizer of one token a byte and no weights."""
    folder = tmp_path_factory.mktemp("model")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    write_config(folder)
    return folder


def write_config(folder: Path, **changes: int) -> None:
    values = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
    }
    LlamaConfig(**(values | changes)).save_pretrained(folder)


def model_findings(
    folder: Path, memory: int | None = 80 * GB, tp: int = 1, **changes
) -> list[Finding]:
    config = LLMConfig(model=Model(str(folder), tensor_parallel=tp), gpu=True, **changes)
    return run_check("model", lambda: check_model(config, memory))


def test_a_model_that_fits_is_ok(model):
    found = model_findings(model)
    assert levels(found) == [OK, OK]
    assert "room for about" in found[1].sentence


def test_a_model_that_is_not_there_or_half_there_is_a_failure(model, tmp_path):
    config = LLMConfig(model=Model("nobody/nothing"))
    found = run_check("model", lambda: check_model(config, None))
    assert "there is no model 'nobody/nothing'" in only(found, FAILED)
    assert "is not a model: it has no config.json" in only(model_findings(tmp_path), FAILED)
    (tmp_path / "config.json").write_text("{")
    assert "cannot read the config.json" in only(model_findings(tmp_path), FAILED)
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    assert "cannot load the tokenizer" in only(model_findings(tmp_path), FAILED)


def test_a_model_that_does_not_fit_is_a_failure(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "large")
    write_config(folder, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8)  # fmt: skip
    assert "give --tensor-parallel 4" in only(model_findings(folder, 72 * GB, tp=2), FAILED)
    found = model_findings(folder, 40 * GB, tp=4)
    assert "leave no room for an answer" in only(found, FAILED)


def test_grouped_heads_on_more_gpus_than_heads_are_kept_several_times():
    grouped = Decoder(1e9, 2e9, heads=32, kv_heads=2, kv_bytes=1e6, context=2048)
    assert [n for n in range(1, 9) if grouped.splits_over(n)] == [1, 2, 4, 8]
    two, eight = (grouped.cached_tokens(80e9, n) for n in (2, 8))
    assert two == pytest.approx((2 * (80e9 * 0.92 - 4e9) - 2e9) / 1e6)
    assert eight == pytest.approx((8 * (80e9 * 0.92 - 4e9) - 2e9) / 4e6)


def test_the_cache_s_formula_gives_the_size_of_a_real_cache():
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=3,
        num_attention_heads=8, num_key_value_heads=2,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    cache = model(torch.arange(10)[None], use_cache=True).past_key_values
    tensors = [t for layer in cache.layers for t in (layer.keys, layer.values)]
    size = sum(t.numel() * t.element_size() for t in tensors)
    assert Decoder.of_config(config, 1).kv_bytes * 10 == size


@pytest.mark.parametrize(
    ("quantisation", "bytes_a_weight"),
    [
        (None, 2),
        ({"quant_method": "awq", "bits": 4}, 0.55),
        ({"quant_method": "gptq", "bits": 8}, 1),
        ({"quant_method": "fp8"}, 1),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
            },
            0.55,
        ),
    ],
)
def test_the_size_of_a_quantised_model_is_read_from_its_config(quantisation, bytes_a_weight):
    config = LlamaConfig()
    if quantisation:
        config.quantization_config = quantisation
    assert Decoder.of_config(config, 1e9).weights == pytest.approx(1e9 * bytes_a_weight)


def test_heads_that_cannot_be_shared_a_short_context_and_a_small_cache_are_named(model, tmp_path):
    found = model_findings(model, tp=3)
    assert "4 heads of attention cannot be divided between 3 GPUs: give --tensor-parallel 1 or 2 or 4" in only(found, FAILED)  # fmt: skip
    short = shutil.copytree(model, tmp_path / "short")
    write_config(short, max_position_embeddings=1024)
    found = model_findings(short)
    assert "the model was made for 1,024" in only(found, FAILED)
    found = model_findings(model, int(4.4e9), batch=10**6)
    assert "fewer than --batch 1000000" in only(found, WARNING)


# -- images --------------------------------------------------------------------------------------


def image_findings(place: Path, captions: Path | None = None) -> list[Finding]:
    source = Source((str(captions),)) if captions else None
    return run_check("images", lambda: check_images(str(place), source))


def test_shards_with_captions_are_ok(crawl):
    found = image_findings(crawl.folder, crawl.tsv)
    assert levels(found) == [OK, OK]
    assert "3 of the 3 images" in found[1].sentence
    assert "by their URLs (train with --key-field url)" in found[1].sentence
    assert (
        "by their keys" in image_findings(crawl.folder, crawl.folder / "00000.parquet")[1].sentence
    )


def test_images_of_other_captions_are_a_failure(crawl, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("https://b/1\ta dog\n")
    assert "none of the images in" in only(image_findings(crawl.folder, other), FAILED)
    other.write_text("https://images.example/1.jpg\ta dog\n")
    assert "are these captions of another data set?" in only(
        image_findings(crawl.folder, other), WARNING
    )


@pytest.mark.parametrize("name", ["00000.tar", "00001.tar"])
def test_a_shard_that_is_cut_off_is_a_failure(crawl, name):
    path = crawl.folder / name
    path.write_bytes(path.read_bytes()[:2000])
    assert f"{name} is cut off or damaged" in only(image_findings(crawl.folder), FAILED)


def test_missing_folders_empty_and_missing_shards_are_named(crawl, tmp_path):
    assert "there are no images at" in only(image_findings(tmp_path / "nowhere"), FAILED)
    (crawl.folder / "00001.tar").rename(crawl.folder / "00004.tar")
    assert "3 shards are missing, the first is 00001.tar" in only(
        image_findings(crawl.folder), WARNING
    )
    with tarfile.open(crawl.folder / "00009.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("x.txt"), io.BytesIO())
    assert "holds no image" in only(image_findings(crawl.folder), FAILED)


# -- benchmarks ----------------------------------------------------------------------------------


def test_benchmarks_that_are_not_there_are_named_each(tmp_path):
    found = list(check_benchmarks([ALL], tmp_path))
    assert [one.check for one in found] == list(BENCHMARKS)
    assert set(levels(found)) == {FAILED}
    assert all("get it from" in one.sentence for one in found)
    found = list(check_referring(tmp_path))
    assert [one.check for one in found] == list(SPLITS)
    assert set(levels(found)) == {FAILED}
    assert "there is no benchmark 'vco'" in only(check_benchmarks(["vco"], tmp_path), FAILED)


def test_a_benchmark_that_is_there_is_ok(tmp_path):
    ade20k(tmp_path)
    assert "2 images" in only(check_benchmarks(["ade20k"], tmp_path), OK)


# -- the command ---------------------------------------------------------------------------------


def test_the_command_prints_a_line_a_finding_and_fails_if_one_fails(tmp_path, capsys, root):
    sample = str(root / "parsing" / "sample_captions.tsv")
    good = ["--no-gpu", "--model", "smollm2", "--captions", sample, "--address", ""]
    good += ["--output", str(tmp_path / "tags")]
    assert preflight.main(good) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert [line.split()[1] for line in lines][:3] == ["versions", "GPUs", "model"]
    assert preflight.main([*good, "--images", str(tmp_path / "nowhere"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["check"] for one in found if one["level"] == FAILED] == ["images"]


def test_a_missing_cluster_does_not_keep_the_other_checks_from_running(tmp_path, capsys, root):
    sample = str(root / "parsing" / "sample_captions.tsv")
    flags = ["--no-gpu", "--model", "smollm2", "--captions", sample]
    flags += ["--address", f"127.0.0.1:{free_port()}"]
    assert preflight.main(flags) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FAILED   cluster     no Ray cluster answers at")
    assert lines[-1].startswith("ok       captions")


def test_a_check_that_breaks_becomes_a_finding():
    def broken():
        yield Finding(OK, "so far")
        raise KeyError("lost")

    found = run_check("x", broken)
    assert levels(found) == [OK, FAILED]
    assert "this check itself broke, report it: KeyError" in found[1].sentence


def test_flags_that_make_no_sense_are_told_in_one_sentence(capsys):
    for flags, sentence in (
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--tensor-parallel", "0"], "--tensor-parallel must be at least 1"),
        (["--benchmarks", "voc"], "--benchmarks and --data go together"),
    ):
        assert preflight.main(flags) == 2
        assert sentence in capsys.readouterr().err
