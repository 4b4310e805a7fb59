"""An ensemble of trees over a package's input matrices, evaluated by compiled code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import PackageError
from mainspring.models.signature import Floats, Texts
from mainspring.models.walk import GROUP, HEAD, ROWS, SPLIT, STRETCH, WALKS, sweep, walk

Ints = npt.NDArray[np.int64]

_SWEEP = 1.5
"""What a split costs, put to ``ROWS`` rows, where a step of a walk costs 1."""


@dataclass(frozen=True)
class Lookup:
    """A text column that becomes numbers.

    Attributes:
        at: Its place among the texts.
        codes: The row of ``table`` of each known text.
        other: The row of all other texts.
    """

    at: int
    codes: Mapping[str, int]
    other: int
    table: Floats


@dataclass(frozen=True, eq=False)
class Trees:
    """An ensemble.

    Attributes:
        plan: Link, groups and nodes, as ``walk`` takes them.
        sweeping: The same as ``sweep`` takes it.
        numbers: Columns that are given as numbers; those of the lookups follow them.
    """

    plan: npt.NDArray[np.int32]
    sweeping: npt.NDArray[np.int32]
    numbers: int
    lookups: tuple[Lookup, ...]

    def predict(self, numbers: Floats, texts: Texts) -> npt.NDArray[np.float64]:
        """Outputs, shape (rows,), as ``Runtime.predict_matrix`` has them.

        Raises:
            PackageError: These are no such matrices (MS-M122).
        """
        if numbers.dtype != np.float32 or numbers.ndim != 2 or (self.numbers and numbers.shape[1] != self.numbers):
            why = f"it takes {self.numbers} columns of float32, and was given {numbers.dtype} of shape {numbers.shape}"
            raise PackageError("MS-M122", "the model cannot answer these rows", why=why)
        matrix = self._matrix(numbers, texts) if self.lookups else numbers
        if not (matrix.flags.c_contiguous and matrix.flags.writeable):  # other arrays are other types to compiled code
            matrix = matrix.copy(order="C")
        out = np.empty(len(matrix))
        rest = len(matrix) % ROWS
        walked = len(matrix) if self.sweeps_from > ROWS else rest if rest < self.sweeps_from else 0
        if walked == len(matrix):
            walk(matrix, self.plan, out)
            return out
        sweep(matrix[walked:], self.sweeping, out[walked:])
        if walked:
            walk(matrix[:walked], self.plan, out[:walked])
        return out

    @cached_property
    def sweeps_from(self) -> int:
        """So many rows, of ``ROWS`` at most that are swept at a time, cost less swept than walked."""
        steps = WALKS * self.plan[HEAD : HEAD + GROUP * self.plan[3]].reshape(-1, GROUP)[:, -1].sum()
        stretches = self.sweeping[HEAD : HEAD + STRETCH * self.sweeping[3]].reshape(-1, STRETCH)
        return math.ceil(_SWEEP * float((stretches[:, 1] - stretches[:, 0]).sum()) / SPLIT / float(steps))

    def _matrix(self, numbers: Floats, texts: Texts) -> Floats:
        parts = [numbers] if self.numbers else []
        for one in self.lookups:
            get, other = one.codes.get, one.other
            parts.append(one.table[[get(text, other) for text in texts[:, one.at].tolist()]])
        return np.concatenate(parts, axis=1)

    @property
    def width(self) -> int:
        """Columns that the splits look at."""
        return self.numbers + sum(int(one.table.shape[1]) for one in self.lookups)

    @property
    def link(self) -> int:
        """What the sum is put into."""
        return int(self.plan[1])

    def linked(self, link: int) -> Trees:
        """The same trees with another link."""
        plan, sweeping = self.plan.copy(), self.sweeping.copy()
        plan[1] = sweeping[1] = link
        return Trees(plan, sweeping, self.numbers, self.lookups)

    def splits(self) -> tuple[Ints, Floats]:
        """Column and threshold of each split."""
        nodes = self.plan[HEAD + GROUP * int(self.plan[3]) :].reshape(-1, 2)
        keys, ways = nodes[nodes[:, 1] != 0].T
        return ((ways >> 16) - 1) % self.width, floats_of(keys)


def keys_of(values: Floats) -> npt.NDArray[np.int32]:
    """Whole numbers that order as floats do; the zeros are one.

    >>> keys_of(np.array([-1.0, -0.0, 0.0, 2.0], np.float32)).tolist()
    [-1065353217, 0, 0, 1073741824]
    """
    return _mirrored((values + np.float32(0.0)).view(np.int32))


def floats_of(keys: npt.NDArray[np.int32]) -> Floats:
    """The floats of ``keys_of``.

    >>> floats_of(np.array([-1065353217, 0, 1073741824], np.int32)).tolist()
    [-1.0, 0.0, 2.0]
    """
    return _mirrored(keys).view(np.float32)


def _mirrored(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
