"""The output folder: can be written to, has room, and holds nothing that a run would refuse."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from common.storage import Folder, inside_ray_copy
from parsing.job.run_folder import MANIFEST, RunFolder
from workflows.cc12m.checks.finding import Finding, failed, ok, warning

TAG_BYTES = (
    330.0  # of a caption: a dry run left 97, without attributes and raw answers; see README.md
)
MARGIN = 1.2  # room beyond the estimate that is asked for


def check_output(url: str, needed: float | None) -> Iterator[Finding]:
    """Writes a small file and removes it, looks at the disk, and at what is there already.

    Args:
        url: as given with --output.
        needed: bytes that the run is estimated to write; None where that is not known.

    Raises:
        UserError: it cannot be written to.
    """
    if inside_ray_copy(url):
        yield failed(
            f"{url} lies in the copy that Ray makes of a job's folder and "
            "deletes: give an absolute path or a URL"
        )
        return
    folder = Folder(url)
    _try_to_write(folder)
    yield ok(f"{url} can be written to")
    yield from _room(folder, needed)
    yield from _earlier_run(url)


def _try_to_write(folder: Folder) -> None:
    """Writes where the run will: in the folder itself, or in the nearest one above it."""
    made = _nearest(folder) if folder.is_local else None
    place = folder if made is None else Folder(made)
    name = f"preflight-{uuid.uuid4().hex}"
    try:
        place.write(name, b"x" * 4096)
    finally:
        place.remove(name)


def _nearest(folder: Folder) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = Path(folder.root).absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UserError(f"cannot write to {folder.url}: {place} is a file, give another --output")
    return place


def _room(folder: Folder, needed: float | None) -> Iterator[Finding]:
    if not folder.is_local:
        yield ok(f"{folder.url} is not on this machine: its room is not known")
        return
    free = shutil.disk_usage(_nearest(folder)).free
    if needed is None:
        yield ok(f"{free / 1e9:.1f} GB free")
    elif free < needed:
        yield failed(
            f"{free / 1e9:.1f} GB free where the run needs about "
            f"{needed / 1e9:.1f} GB: free some space, or give --output on another disk"
        )
    elif free < needed * MARGIN:
        yield warning(
            f"{free / 1e9:.1f} GB free where the run needs about "
            f"{needed / 1e9:.1f} GB: free some space to be safe"
        )
    else:
        yield ok(f"{free / 1e9:.1f} GB free, and the run needs about {needed / 1e9:.1f} GB")


def _earlier_run(url: str) -> Iterator[Finding]:
    run = RunFolder(url)
    if not run.folder.exists(MANIFEST):
        if run.folder.names(".parquet"):
            yield failed(f"{url} holds Parquet files but no run: give another --output")
        return
    manifest, committed = run.manifest(), len(run.committed())
    with run.folder.lock():  # raises where a run is writing to it now
        pass
    parser = manifest.get("parser", "?")
    what = "finished" if manifest.get("finished") else f"{committed:,} shards of"
    yield ok(
        f"{url} holds a {what} run of the parser {parser}: the same command goes on "
        "with it, another one is refused"
    )
