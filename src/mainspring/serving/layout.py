"""How the inputs of one packaged model are filled from request rows, feature views and expressions.

A package names its own features, with the versions of their views, so that an old release keeps what it was trained on
after the definitions file has moved on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from sys import getsizeof
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from mainspring.core.errors import PackageError
from mainspring.core.names import did_you_mean
from mainspring.core.numbers import array_text
from mainspring.definitions import SourceDef
from mainspring.features.request import Answer
from mainspring.models.package import Package, PackagedFeature
from mainspring.serving.table import Row, Table, column_of, texts_of

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp] | slice

STATUS = ("present", "missing", "expired", "default", "unavailable", "erased")
PRESENT, MISSING, EXPIRED, DEFAULT, UNAVAILABLE, ERASED = range(6)
_NO_NUMBERS, _NO_TEXTS = np.empty((1, 0), np.float32), np.empty((1, 0), np.object_)
_ENCODE = msgspec.json.Encoder().encode  # of codes


class Gathered(msgspec.Struct, frozen=True, eq=False):
    """What a batch's models are fed from, read once for all of them.

    Attributes:
        rows: Checked request rows.
        blocks: Values float64[n, F] and status uint8[n, F] of each view of the route.
        texts: Texts of a view's text values, n each, by view and place in its block.
        computed: Each expression of the route: float64[n], or a list of n texts.
        computed_status: Of each, uint8[n].
        broken: By expression, the rows for which it cannot be computed and why.
        folded: Offset of the log folded into the state that was read; 0 when it could not be read.
    """

    rows: Sequence[Row]
    blocks: Sequence[tuple[Floats, Codes]]
    texts: Mapping[tuple[int, int], Sequence[str | None]]
    computed: Sequence[Answer]
    computed_status: Sequence[Codes]
    broken: Mapping[int, Mapping[int, str]]
    folded: int

    def part(self, places: Sequence[int]) -> Gathered:
        """Some of the rows, in the order of ``places``."""
        return Gathered(
            Table([self.rows[i] for i in places]),
            [(values[places], status[places]) for values, status in self.blocks],
            {key: [texts[i] for i in places] for key, texts in self.texts.items()},
            [[one[i] for i in places] if isinstance(one, list) else one[places] for one in self.computed],
            [status[places] for status in self.computed_status],
            {number: {to: why[i] for to, i in enumerate(places) if i in why} for number, why in self.broken.items()},
            self.folded,
        )


def units_of(rows: Sequence[Row], place: int) -> list[str]:
    """The label's key of each row as text; empty where it has none."""
    column = column_of(rows, place)
    return list(texts_of(["" if value is None else value for value in column] if None in column else column))


class Inputs(msgspec.Struct, frozen=True, eq=False, dict=True):
    """What one model is fed for a batch.

    Attributes:
        names: The model's columns in its own order.
        values: float64[n, columns] before rounding to what the model reads; NaN for null and for texts.
        status: uint8[n, columns], a code of ``STATUS``.
        numbers: float32[n, number columns].
        texts: Objects [n, text columns], missing ones written as the package's missing text.
        written: Texts as they were served, by place in ``names``.
    """

    names: tuple[str, ...]
    values: Floats
    status: Codes
    numbers: npt.NDArray[np.float32]
    texts: npt.NDArray[np.object_]
    written: Mapping[int, Sequence[str | None]]

    @cached_property
    def _lists(self) -> tuple[Sequence[Sequence[Any]], list[list[int]] | None]:
        """Values and status by row; no status where all are present."""
        return self.values.tolist(), self.status.tolist() if self.status.any() else None

    def logged(self, row: int) -> tuple[str, str]:
        """The row's feature values and status codes as the prediction log keeps them.

        Returns:
            A JSON array of values, infinite ones as texts, and one of codes that is empty text when all are present.
        """
        values, status = self._lists
        shown = values[row]
        if self.written:
            shown = list(shown)
            for place, texts in self.written.items():
                shown[place] = texts[row]
        codes = status[row] if status is not None else ()
        return array_text(shown), _ENCODE(codes).decode() if any(codes) else ""

    def part(self, rows: Sequence[int]) -> Inputs:
        """Some of the rows, as far as they are logged and shown; it keeps nothing of the others."""
        written = {place: [texts[row] for row in rows] for place, texts in self.written.items()}
        chosen = list(rows)
        return Inputs(self.names, self.values[chosen], self.status[chosen], _NO_NUMBERS, _NO_TEXTS, written)

    def alone(self, row: int) -> Inputs:
        """One row, as far as it is logged and shown."""
        return self.part((row,))

    @property
    def text_bytes(self) -> int:
        """Size of the texts that are logged."""
        return sum(getsizeof(text) for texts in self.written.values() for text in texts)

    def shown_status(self, row: int) -> dict[str, str]:
        """The row's status by feature, in words."""
        return {name: STATUS[code] for name, code in zip(self.names, self.status[row].tolist(), strict=True)}


class Layout:
    """Where each input of a package comes from, compiled once.

    Args:
        package: Names its features and the kinds of its inputs.
        source: Of the requests.
        views: Place of each view in ``Gathered.blocks``, by name and version, with the names of its values.
        expressions: Place in ``Gathered.computed`` of each of the package's expressions, by its JSON.

    Raises:
        PackageError: The package wants what the route cannot give (MS-S120).
    """

    def __init__(
        self,
        package: Package,
        source: SourceDef,
        views: Mapping[tuple[str, str], tuple[int, Sequence[str]]],
        expressions: Mapping[str, int],
    ) -> None:
        features, signature = package.meta.features, package.signature
        self.names = tuple(f.name for f in features)
        if self.names != tuple(c.name for c in signature.inputs):
            raise PackageError("MS-S120", "the package's features are not the model's inputs", where=str(package.path))
        self._missing_text = signature.missing_text
        self._numbers = _together([i for i, c in enumerate(signature.inputs) if c.kind == "number"])
        self._texts = [i for i, c in enumerate(signature.inputs) if c.kind == "text"]
        self._text_values: dict[int, tuple[int, int]] = {}
        by_view: dict[int, list[tuple[int, int]]] = {}
        request: list[tuple[int, int]] = []
        computed: list[tuple[int, int]] = []
        for place, feature in enumerate(features):
            if feature.view:
                number, names = _known(views, (feature.view, feature.view_version), feature, package)
                slots = {name: i for i, name in enumerate(names)}
                slot = _known(slots, feature.feature, feature, package)
                by_view.setdefault(number, []).append((place, slot))
                if feature.kind == "text":
                    self._text_values[place] = (number, slot)
            elif feature.expression:
                computed.append((place, _known(expressions, feature.expression, feature, package)))
            else:
                request.append((place, _known(source.places, feature.column, feature, package)))
        self._views = [(v, _places(pairs, 0), _places(pairs, 1)) for v, pairs in by_view.items()]
        numeric = [pair for pair in request if signature.inputs[pair[0]].kind == "number"]
        # All floats of the source are asked for, as the log does: they are made of a batch once.
        self._asked = tuple(dict.fromkeys((*source.float_places, *(column for _, column in numeric))))
        self._request = (_places(numeric, 0), _together([self._asked.index(column) for _, column in numeric]))
        self._has_numbers = bool(numeric)
        self._computed = [pair for pair in computed if signature.inputs[pair[0]].kind == "number"]
        self._text_columns = {place: column for place, column in request if place in self._texts}
        self._text_computed = {place: number for place, number in computed if place in self._texts}
        self.expressions = frozenset(number for _, number in computed)

    def fill(self, gathered: Gathered) -> Inputs:
        """The inputs of every row of a batch."""
        rows = gathered.rows
        shape = (len(rows), len(self.names))
        values, status = np.full(shape, np.nan), np.zeros(shape, np.uint8)
        for view, to, of in self._views:
            block, codes = gathered.blocks[view]
            values[:, to], status[:, to] = block[:, of], codes[:, of]
        if self._has_numbers:
            to, of = self._request
            block = Table.of(rows).floats(self._asked)[of].T
            values[:, to], status[:, to] = block, np.isnan(block)
        for place, number in self._computed:
            values[:, place], status[:, place] = gathered.computed[number], gathered.computed_status[number]
        written: dict[int, Sequence[str | None]] = {}
        texts = np.empty((len(rows), len(self._texts)), np.object_)
        for j, place in enumerate(self._texts):
            if place in self._text_columns:
                column = self._text_columns[place]
                served: Any = list(column_of(rows, column))
                status[:, place] = [MISSING if text is None else PRESENT for text in served]
            elif place in self._text_values:
                served = gathered.texts[self._text_values[place]]
                values[:, place] = np.nan
            else:
                number = self._text_computed[place]
                served, status[:, place] = gathered.computed[number], gathered.computed_status[number]
            written[place] = served
            texts[:, j] = [self._missing_text if text is None else text for text in served]
        with np.errstate(over="ignore"):  # beyond float32 is infinite, as it was at training
            numbers = values[:, self._numbers].astype(np.float32)
        return Inputs(self.names, values, status, numbers, texts, written)


def _places(pairs: Sequence[tuple[int, int]], end: int) -> Places:
    return _together([pair[end] for pair in pairs])


def _together(places: Sequence[int]) -> Places:
    """Places as a slice where they follow one another: numpy takes these for less."""
    if places and list(places) == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, np.intp)


def _known(known: Mapping[Any, Any], key: Any, feature: PackagedFeature, package: Package) -> Any:
    try:
        return known[key]
    except KeyError:
        text = key if isinstance(key, str) else " version ".join(key)
        raise PackageError(
            "MS-S120",
            f"feature {feature.name!r} of the package needs {text!r}, which requests do not have",
            where=str(package.path),
            hint=did_you_mean(text, [k for k in known if isinstance(k, str)]) or "train the model again",
        ) from None
