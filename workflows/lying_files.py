"""A file system that is slow, fails and lies, for `workflows/chaos.py`: `lying:///local/path`.

    LYING_UNTIL=1790000000 LYING_SEED=3 python workflows/lying_files.py --captions ... --output lying:///...

runs `parsing/run.py` with it. Until that moment one call in `SHARE` waits, one raises, one writes or
reads only half and says nothing; afterwards it is a local disk.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    # The repository, not this folder: a module here is called like a package there.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import fsspec
from fsspec.implementations.local import LocalFileSystem

SHARE = 0.05  # of each of the three, among all calls
LONGEST = 2.0  # seconds that a call waits
PROTOCOL = "lying"


class LyingFiles(LocalFileSystem):
    """See the module.

    Attributes:
        troubled: calls that raised, or wrote or read only half.
    """

    protocol = PROTOCOL
    random = Random(int(os.environ.get("LYING_SEED", "0")))
    until = float(os.environ.get("LYING_UNTIL", "0"))
    troubled = 0

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return super()._strip_protocol(os.fspath(path).removeprefix(f"{PROTOCOL}://"))

    def unstrip_protocol(self, name: str) -> str:
        return f"{PROTOCOL}://{name}"

    def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
        super().pipe_file(path, self._half(value), **options)

    def cat_file(self, path: str, *where: Any, **options: Any) -> bytes:
        return self._half(super().cat_file(path, *where, **options))

    def _half(self, data: bytes) -> bytes:
        """All of it, mostly."""
        if time.time() > self.until:
            return data
        lot = self.random.random() / SHARE
        if lot < 1:
            time.sleep(self.random.uniform(0, LONGEST))
        elif lot < 2:
            type(self).troubled += 1
            raise OSError(errno.EIO, "the disk is in a bad mood")
        elif lot < 3:
            type(self).troubled += 1
            return data[: len(data) // 2]
        return data


def main() -> int:
    """`parsing/run.py` with this file system; its exit code."""
    from parsing import run

    fsspec.register_implementation(PROTOCOL, LyingFiles)
    return run.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
