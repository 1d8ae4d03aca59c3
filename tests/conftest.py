"""What tests of every stage share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fsspec
import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# No test may wait for a network: what is loaded by name is tested on local folders.
os.environ["HF_HUB_OFFLINE"] = "1"
# How long an example takes is the machine's affair: speed is measured in benchmarks.
hypothesis.settings.register_profile("tagalign", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tagalign")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's own folder, where the commands are typed."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real captions, images and gold tags that lies beside some checkouts."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"needs the real data in {folder.parent.name}/{folder.name}, which is absent here"
        )
    return folder


@pytest.fixture
def memory() -> fsspec.AbstractFileSystem:
    """An empty remote file system, `memory://` in URLs; it stands for every object store."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    return files


@pytest.fixture(scope="module")  # for longer, its event loop would be in the way of other tests
def browser():
    """The system's Chromium without a window, driven by Playwright; its `new_page()` is a tab."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium or Chrome, which is not on the PATH")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
