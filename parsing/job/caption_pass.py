"""The pass over the input, in a thread, so that its shards are parsed while it goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from common.storage import Folder
from parsing.source.captions import Counts, Selection, write_caption_shards
from parsing.source.readers import Source


class CaptionPass:
    """Runs `write_caption_shards` in a thread, and tells which shards are written.

    Args:
        folder: the run's folder.
        keep: see `write_caption_shards`.
        tell: called with notes for the user, from the thread.

    Attributes:
        images: rows of the input so far.
        anew: whether this pass writes shards; False where an earlier one has written them all.
        counts: what the pass saw, once it has ended.
    """

    def __init__(
        self,
        folder: Folder,
        source: Source,
        selection: Selection,
        keep: bool,
        tell: Callable[[str], None],
    ):
        self._arguments = folder, source, selection
        self._keep, self._tell = keep, tell
        self._there: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._announced = 0
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self.images, self.counts, self.anew = 0, None, False
        # A source that no longer answers must not keep a run from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def shards(self) -> Iterator[int | None]:
        """Numbers of the shards as they are written; None while the next one is not written yet.

        Raises:
            UserError: as `write_caption_shards`, after the numbers of the shards that it wrote.
        """
        while True:
            over = not self._thread.is_alive()
            try:
                yield self._there.get_nowait()
                continue
            except queue.Empty:
                pass
            if not over:
                yield None
            elif self._error is not None:
                raise self._error
            else:
                return

    def check(self) -> None:
        """Raises the error that ended the pass, if there was one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stops the pass; what it has written stays."""
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            counts = write_caption_shards(
                *self._arguments,
                watch=self._watch,
                tell=self._tell,
                wrote=self._wrote,
                keep=self._keep,
            )
            for shard in range(self._announced, counts.shards):  # of an earlier pass
                self._announce(shard)
            self.counts: Counts | None = counts
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error

    def _watch(self, images: int) -> None:
        self.images = images
        if self._stop.is_set():
            raise _Stopped

    def _wrote(self, shard: int) -> None:
        self.anew = True
        self._announce(shard)

    def _announce(self, shard: int) -> None:
        self._announced = shard + 1
        self._there.put(shard)
        if self._stop.is_set():
            raise _Stopped


class _Stopped(Exception):
    """The run has ended, and so the pass must end."""
