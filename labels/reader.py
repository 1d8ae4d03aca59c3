"""Reads a label file as a memory-mapped CSR matrix with a vocabulary and keys.

N images, T tags, B the rows of a batch.

    labels = Labels("labels/cc12m_obj_attr.parquet")
    len(labels), labels.num_tags
    labels["000012345"]                         # tag ids of one image, by key
    labels.row(0)                               # ... by position
    positions = labels.positions(keys)          # many keys at once, -1 where unknown
    indptr, indices = labels.rows(positions)    # CSR of a batch; labels.rows_torch for tensors
    labels.frequencies()                        # tensor of shape (num_tags,)

The first `Labels` of a file writes the folder `FILE.csr` beside it; every later one maps the arrays in it.
"""

from __future__ import annotations

import os
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from common.errors import UserError, reason
from labels.label_file import SCORED_LABELS, SCORES, read_footer
from labels.sidecar import Arrays, cached_arrays
from labels.vocabulary import Vocabulary

if TYPE_CHECKING:
    import scipy.sparse
    import torch

_BATCH_ROWS = 65_536
_INT32_MAX = 2**31 - 1


class Labels:
    """N images by T tags, binary and sparse. Safe to share between threads, to fork and to pickle.

    Keys are looked up by their 64-bit xxh3 hashes: for 12 million images the chance that any two of
    them collide is 4e-6. Where several rows have one key, `position` gives the first, `matches` all.

    Args:
        path: a label file made by `labels/build_vocab.py`, on a disk that can be memory-mapped.

    Attributes:
        path: as given.
        vocabulary: the file's own vocabulary, T tags.
        indptr: int32 of shape (N + 1,) (int64 beyond 2^31 labels), mapped: row i owns
            `indices[indptr[i]:indptr[i + 1]]`.
        indices: int32 of shape (number of labels,), mapped: tag ids, ascending in each row.
        scores: float16 of shape (number of labels,), mapped: the probability that the picture shows the
            tag, 1 where it was not judged; None in a file without scores.

    Raises:
        UserError: no such file, not a label file, damaged, or older than the vocabulary beside it.
    """

    path: Path
    vocabulary: Vocabulary
    indptr: np.ndarray
    indices: np.ndarray
    scores: np.ndarray | None

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        footer, _, self.vocabulary = read_footer(self.path)
        self._identity = _identity(self.path)
        scored = SCORES.name in footer.schema.to_arrow_schema().names
        arrays = cached_arrays(
            self.path,
            ".csr",
            self._identity,
            lambda: _build_csr(self.path, footer.num_rows, self.num_tags, scored),
        )
        self.indptr, self.indices = arrays["indptr"], arrays["indices"]
        self.scores = arrays.get("scores")
        self._hashes, self._rows = arrays["hashes"], arrays["rows"]
        self._sorted = memoryview(self._hashes)
        self._texts: dict[str, Arrays] = {}

    def __reduce__(self):
        return Labels, (str(self.path),)

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.indptr) - 1

    @property
    def num_tags(self) -> int:
        """T, the width of the matrix."""
        return len(self.vocabulary)

    def __contains__(self, key: str) -> bool:
        return self.position(key) >= 0

    def __getitem__(self, key: str) -> np.ndarray:
        """Tag ids of the image with this key: int32, ascending.

        Raises:
            KeyError: no image has it.
        """
        position = self.position(key)
        if position < 0:
            raise KeyError(key)
        return self.row(position)

    def row(self, position: int) -> np.ndarray:
        """Tag ids of the image at this position: int32, ascending.

        Raises:
            IndexError: a position outside [0, N).
        """
        if not 0 <= position < len(self):
            raise IndexError(f"row {position} of {len(self)}")
        return self.indices[self.indptr[position] : self.indptr[position + 1]]

    def position(self, key: str) -> int:
        """The row of one key, or -1 if no image has it."""
        wanted = xxhash.xxh3_64_intdigest(key.encode())
        at = bisect_left(self._sorted, wanted)
        if at < len(self._sorted) and self._sorted[at] == wanted:
            return int(self._rows[at])
        return -1

    def positions(self, keys: Sequence[str]) -> np.ndarray:
        """The rows of many keys: int64 of shape (len(keys),), -1 where a key is unknown."""
        if not len(self):
            return np.full(len(keys), -1, dtype=np.int64)
        wanted = _hash([key.encode() for key in keys])
        at = np.searchsorted(self._hashes, wanted)
        at[at == len(self)] = 0
        return np.where(self._hashes[at] == wanted, self._rows[at], -1).astype(np.int64)

    def matches(self, keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All rows of many keys, for images with several captions.

        Returns:
            Two int64 arrays of one length: positions in `keys`, ascending, and a row with that key,
            ascending for each key. An unknown key is in neither.
        """
        wanted = _hash([key.encode() for key in keys])
        first = np.searchsorted(self._hashes, wanted, "left")
        found = np.searchsorted(self._hashes, wanted, "right") - first
        which = np.repeat(np.arange(len(keys)), found)
        before = np.cumsum(found) - found
        at = first[which] + np.arange(len(which)) - before[which]
        return which, self._rows[at].astype(np.int64)

    def rows(self, positions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The CSR arrays of a batch of B rows, in the order given.

        Returns:
            indptr, int64 of shape (B + 1,), and indices, int32 of shape (indptr[-1],).

        Raises:
            IndexError: a position outside [0, N).
        """
        indptr, taken = self._taken(positions)
        return indptr, self.indices[taken]

    def scores_of(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """The scores of a batch of rows, in the order of the indices that `rows` gives.

        Returns:
            float32 of shape (indptr[-1],); ones in a file without scores.

        Raises:
            IndexError: a position outside [0, N).
        """
        _, taken = self._taken(positions)
        if self.scores is None:
            return np.ones(len(taken), dtype=np.float32)
        return self.scores[taken].astype(np.float32)

    def _taken(self, positions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """indptr of a batch of rows, and where in `indices` their tags are."""
        positions = np.asarray(positions, dtype=np.int64)
        if len(positions) and not (positions.min() >= 0 and positions.max() < len(self)):
            raise IndexError(f"a row outside the {len(self)} of {self.path}")
        starts = self.indptr[positions].astype(np.int64)
        lengths = self.indptr[positions + 1] - starts
        indptr = np.zeros(len(positions) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        return indptr, np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])

    def csr(
        self, positions: Sequence[int] | np.ndarray | None = None, dtype: type = np.uint8
    ) -> scipy.sparse.csr_array:
        """The matrix, or a batch of its rows, for scipy.

        Args:
            positions: B rows in any order; None takes all N of them without a copy.
            dtype: of the ones, which are always private memory.

        Returns:
            Shape (N or B, T), ones of `dtype`.
        """
        import scipy.sparse

        indptr, indices = (self.indptr, self.indices) if positions is None else self.rows(positions)
        ones = np.ones(len(indices), dtype=dtype)
        matrix = scipy.sparse.csr_array((len(indptr) - 1, self.num_tags), dtype=dtype)
        matrix.data, matrix.indices, matrix.indptr = ones, indices, indptr
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix

    def rows_torch(
        self, positions: Sequence[int] | np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`rows` as tensors: crow indices, int64 of shape (B + 1,), and col indices, int32.

        `positions` None takes the whole matrix without a copy; its crow indices are int32 if they fit.
        """
        import torch

        indptr, indices = (self.indptr, self.indices) if positions is None else self.rows(positions)
        return torch.from_numpy(indptr), torch.from_numpy(indices)

    def csr_torch(
        self,
        positions: Sequence[int] | np.ndarray | None = None,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """The matrix, or a batch of its rows, as a `torch.sparse_csr` tensor.

        Args:
            positions: B rows in any order; None takes all N.
            dtype: of the ones, float32 if None.

        Returns:
            Shape (N or B, T).
        """
        import torch

        crow, col = self.rows_torch(positions)
        ones = torch.ones(len(col), dtype=dtype or torch.float32)
        shape = (len(crow) - 1, self.num_tags)
        with warnings.catch_warnings():  # torch calls its CSR layout beta, once a process
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                crow.to(col.dtype), col, ones, shape, check_invariants=False
            )

    def frequencies(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """The share of captions with each tag: shape (T,), float32 if no dtype is given."""
        import torch

        return torch.from_numpy(self.vocabulary.frequencies).to(dtype or torch.float32)

    def captions(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        """The captions of rows in any order; the first call writes the folder `FILE.captions`."""
        return self._text("caption", positions)

    def keys(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        """The keys of rows in any order; the first call writes the folder `FILE.keys`."""
        return self._text("key", positions)

    def _text(self, column: str, positions: Sequence[int] | np.ndarray) -> list[str]:
        if column not in self._texts:
            self._texts[column] = cached_arrays(
                self.path, f".{column}s", self._identity, lambda: _build_text(self.path, column)
            )
        offsets, data = self._texts[column]["offsets"], memoryview(self._texts[column]["data"])
        found = []
        for position in positions:
            if not 0 <= position < len(self):
                raise IndexError(f"row {position} of {len(self)}")
            found.append(str(data[offsets[position] : offsets[position + 1]], "utf-8"))
        return found


def _identity(path: Path) -> str:
    """Differs between versions of a label file: a hash of its footer, size and time of change."""
    with open(path, "rb") as file:
        size = file.seek(-8, os.SEEK_END) + 8
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, os.SEEK_END)
        digest = xxhash.xxh3_128(file.read(length))
        digest.update(f"{size} {os.fstat(file.fileno()).st_mtime_ns}".encode())
    return digest.hexdigest()


def _hash(keys: Sequence[bytes]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, keys), dtype=np.uint64, count=len(keys))


def _batches(path: Path, column: str):
    """Arrays of `_BATCH_ROWS` rows of one column, which is never in memory as a whole."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[column]):
                yield batch.column(0).cast(SCORED_LABELS.field(column).type)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read column '{column}' of {path}: {reason(error)}") from error


def _build_csr(path: Path, rows: int, num_tags: int, scored: bool):
    lengths = np.empty(rows, dtype=np.int32)
    at = 0
    for lists in _batches(path, "tag_ids"):
        lengths[at : at + len(lists)] = np.diff(lists.offsets.to_numpy())
        at += len(lists)
    total = int(lengths.sum(dtype=np.int64))
    specs = {
        "hashes": ("uint64", (rows,)),
        "indptr": ("int32" if total <= _INT32_MAX else "int64", (rows + 1,)),
        "rows": ("int32" if rows <= _INT32_MAX else "int64", (rows,)),
        "indices": ("int32", (total,)),
    }
    if scored:
        specs["scores"] = ("float16", (total,))

    def fill(arrays: Arrays) -> None:
        arrays["indptr"][0] = 0
        np.cumsum(lengths, out=arrays["indptr"][1:])
        at = 0
        for lists in _batches(path, "tag_ids"):
            ids = lists.flatten().to_numpy()
            if len(ids) and not (ids.min() >= 0 and ids.max() < num_tags):
                raise UserError(f"column 'tag_ids' of {path} has ids outside its {num_tags} tags")
            arrays["indices"][at : at + len(ids)] = ids
            at += len(ids)
        if scored:
            _fill_scores(path, arrays)
        hashes, at = np.empty(rows, dtype=np.uint64), 0
        for keys in _batches(path, "key"):
            hashes[at : at + len(keys)] = _hash(keys.cast(pa.binary()).to_pylist())
            at += len(keys)
        order = np.argsort(hashes, kind="stable")
        np.take(hashes, order, out=arrays["hashes"], mode="clip")  # else out is buffered
        arrays["rows"][:] = order

    return specs, fill


def _fill_scores(path: Path, arrays: Arrays) -> None:
    """The scores of all tags, 1 where there is none; they must be as many as the row's tag ids."""
    row = at = 0
    for lists in _batches(path, SCORES.name):
        ends = arrays["indptr"][row : row + len(lists) + 1]
        found = lists.flatten().to_numpy(zero_copy_only=False)  # null as NaN
        if not np.array_equal(np.diff(lists.offsets.to_numpy()), np.diff(ends)):
            raise UserError(f"column 'scores' of {path} has other lengths than its tag ids")
        if not ((found >= 0) & (found <= 1) | np.isnan(found)).all():
            raise UserError(f"column 'scores' of {path} holds values outside [0, 1]")
        arrays["scores"][at : at + len(found)] = np.where(np.isnan(found), 1, found)
        row, at = row + len(lists), at + len(found)


def _build_text(path: Path, column: str):
    lengths = []
    for texts in _batches(path, column):
        lengths.append(np.diff(_ends(texts)))
    offsets = np.concatenate([[0], *lengths]).astype(np.int64).cumsum()
    specs = {"offsets": ("int64", (len(offsets),)), "data": ("uint8", (int(offsets[-1]),))}

    def fill(arrays: Arrays) -> None:
        arrays["offsets"][:] = offsets
        at = 0
        for texts in _batches(path, column):
            ends, data = _ends(texts), texts.buffers()[2]
            if data is not None:
                encoded = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
                arrays["data"][at : at + len(encoded)] = encoded
                at += len(encoded)

    return specs, fill


def _ends(texts: pa.StringArray) -> np.ndarray:
    """int32 of shape (len(texts) + 1,): text i is bytes [ends[i], ends[i + 1]) of the data buffer."""
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
