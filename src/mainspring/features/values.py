"""The values of a view for some keys: as the online store answers now, and as a replay answers for any moment.

Numbers are as the fold has them, texts as texts, instants as ISO 8601, and what the view derives is computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mainspring.core.errors import ContractError, NotFoundError, UsageError
from mainspring.core.times import to_iso
from mainspring.definitions.features import AGGREGATES, MOMENT
from mainspring.features.history import stream
from mainspring.features.moments import replay_view
from mainspring.features.nearest import Metric, Nearest, Neighbour, nearest_then
from mainspring.features.operations import Column
from mainspring.features.reader import Reader
from mainspring.features.request import Program, view_column
from mainspring.features.shares import Progress
from mainspring.features.status import Status

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.features.reader import Snapshot
    from mainspring.features.store import OnlineStore

FrameOf = Callable[[str], pl.DataFrame]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a view answers for some moments.

    Attributes:
        values: float64[n, S] of the view's slots, NaN for null; texts are words.
        status: uint8[n, S]. What is derived from a value that could not be read could not be read either.
        texts: String with null, of each column of texts.
        offset: Log offset up to which events counted; None for a moment of history.
    """

    view: ViewDef
    t_us: np.ndarray
    values: np.ndarray
    status: np.ndarray
    texts: Mapping[str, pl.Series]
    offset: int | None = None

    def rows(self) -> Iterator[dict[str, tuple[Any, str]]]:
        """For each moment ``name -> (value, status)``: the slots, then what is derived. None is null."""
        slots = [slot for f in self.view.features for slot in f.slot_names]
        columns = [self._column(s) for s in range(len(slots))]
        derived = derive(self)
        read = [[slots.index(c) for c in one.inputs if c in slots] for one in self.view.derived]
        for i in range(len(self.t_us)):
            out = {slot: (columns[s][i], _word(self.status[i, s])) for s, slot in enumerate(slots)}
            for (name, column), places in zip(derived.items(), read, strict=True):
                own = Status.MISSING if column[i] is None else Status.PRESENT
                worst = int(self.status[i, places].max(initial=own))
                out[name] = (column[i], _word(worst if worst >= Status.DEFAULT else own))
            yield out

    def _column(self, place: int) -> list[Any]:
        name = self.view.column_names[place]
        if name in self.texts:
            return self.texts[name].to_list()
        return [shown(self.view.kinds[place], value) for value in self.values[:, place].tolist()]


@dataclass(frozen=True)
class Compared:
    """One value of a view as two sides have it.

    Attributes:
        equal: ``exact``, ``within tolerance``, ``differs``, or ``unavailable`` when one side cannot say.
    """

    name: str
    one: Any
    one_status: str
    other: Any
    other_status: str
    equal: str


def key_of(view: ViewDef, parts: Sequence[str]) -> tuple[Any, ...]:
    """A key as people type it, by the kinds of the entity's columns.

    Raises:
        UsageError: Too many or too few parts (MS-F111).
        ContractError: One that is not of its kind (MS-F110).
    """
    if len(parts) != len(view.entity):
        raise UsageError(
            "MS-F111",
            f"{len(parts)} values name no key of {view.name}" if parts else f"no key of {view.name} is named",
            why=f"a key of it is {', '.join(view.entity)}",
            hint=f"mainspring features show {view.name} {' '.join(e.upper() for e in view.entity)}",
        )
    fields = view.sources[0].columns
    return tuple(_part(fields[name].kind, name, text) for name, text in zip(view.entity, parts, strict=True))


def keys_frame(view: ViewDef, keys: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Keys as `replay` takes them."""
    schema = {name: view.sources[0].schema[name] for name in view.entity}
    return pl.DataFrame(list(keys), schema=schema, orient="row")


def online(view: ViewDef, snapshot: Snapshot, keys: Sequence[tuple[Any, ...]], t_us: int) -> Answers:
    """What the online store answers now."""
    moments = np.full(len(keys), t_us, np.int64)
    values, status = snapshot.read(view, keys, moments)
    texts = {
        name: pl.Series(name, snapshot.texts(values[:, s]), pl.String)
        for s, (name, kind) in enumerate(zip(view.column_names, view.kinds, strict=True))
        if kind == "str"
    }
    return Answers(view, moments, values, status, texts, snapshot.offset)


def replayed(
    view: ViewDef,
    frame_of: FrameOf,
    keys: Sequence[tuple[Any, ...]],
    t_us: int,
    *,
    known_us: int | None = None,
    known_offset: int | None = None,
    progress: Progress | None = None,
) -> Answers:
    """What a replay answers for the moment ``t_us``, of what was known by ``known_us`` or up to ``known_offset``."""
    moments = np.full(len(keys), t_us, np.int64)
    asked = keys_frame(view, keys)
    found = replay_view(view, asked, frame_of, moments, known_us=known_us, known_offset=known_offset, progress=progress)
    return Answers(view, moments, found.values, found.status, found.texts, known_offset)


def derive(answers: Answers) -> dict[str, list[Any]]:
    """The values of what a view derives from its own columns, by name; computed by the code that serves them.

    Null where it cannot be computed, such as a strict cast of what does not fit.
    """
    view = answers.view
    if not view.derived:
        return {}
    program = Program([(e.name, e.json) for e in view.derived], view.own_schema)
    columns: dict[str, Column] = {MOMENT: (answers.t_us, None)}
    slots = (slot for f in view.features for slot in f.slot_names)
    for s, (slot, name, kind) in enumerate(zip(slots, view.column_names, view.kinds, strict=True)):
        texts = answers.texts[name].to_list() if name in answers.texts else None
        columns[slot] = view_column(kind, answers.values[:, s], texts)
    used = {name: columns[name] for name in program.inputs}
    out: dict[str, list[Any]] = {}
    computed, _ = program.answer(used, len(answers.t_us))
    for one, answer in zip(view.derived, computed, strict=True):
        if isinstance(answer, list):
            out[one.name] = answer
        else:
            out[one.name] = [shown(one.kind, value) for value in answer.tolist()]
    return out


def neighbours_now(
    view: ViewDef, feature: str, store: OnlineStore, key: tuple[Any, ...], n: int, t_us: int, metric: Metric
) -> list[Neighbour]:
    """The keys whose latest vectors are nearest to that of ``key``, itself left out, from the online store.

    Raises:
        NotFoundError: The key has no vector then (MS-F121).
    """
    finder = Nearest(store, view, feature, metric)
    with Reader([view], store).snapshot() as snapshot:
        vector = _vector(online(view, snapshot, [key], t_us), feature, key)
    (found,) = finder.search(vector, n + 1, t_us)
    return [one for one in found if one.key != key][:n]


def neighbours_then(
    view: ViewDef, feature: str, frame_of: FrameOf, key: tuple[Any, ...], n: int, t_us: int, metric: Metric
) -> list[Neighbour]:
    """The same at a moment of history, of what was known by then."""
    vector = _vector(replayed(view, frame_of, [key], t_us, known_us=t_us), feature, key)
    events = stream(view, frame_of)
    (found,) = nearest_then(view, feature, events, vector, n + 1, t_us, known_us=t_us, metric=metric)
    return [one for one in found if one.key != key][:n]


def _vector(answers: Answers, feature: str, key: tuple[Any, ...]) -> np.ndarray:
    """A key's own vector, float64[1, d]; zeros for a feature that is none, which the search then refuses."""
    view = answers.view
    place = next((i for i, f in enumerate(view.features) if f.name == feature), None)
    if place is None:
        return np.zeros((1, 1))
    first = view.first_slots[place]
    found = answers.values[:1, first : first + view.features[place].slots]
    if np.isnan(found).any():
        what = f"{', '.join(str(part) for part in key)} has no vector {view.name}.{feature} at that moment"
        raise NotFoundError("MS-F121", what, hint=f"mainspring features show {view.name} {' '.join(map(str, key))}")
    return np.ascontiguousarray(found)


def compare(one: Answers, other: Answers, row: int = 0) -> list[Compared]:
    """Each value of a view as two sides have it; names that only one side has are compared with nothing."""
    mine, theirs = list(one.rows())[row], list(other.rows())[row]
    tolerance = {slot: AGGREGATES[f.function].tolerance for f in one.view.features for slot in f.slot_names}
    out = []
    for name in [*mine, *(n for n in theirs if n not in mine)]:
        a, a_status = mine.get(name, (None, "absent"))
        b, b_status = theirs.get(name, (None, "absent"))
        equal = "exact" if a == b and a_status == b_status else "differs"
        if equal == "differs" and _near(a, b, tolerance.get(name, 0.0)) and a_status == b_status:
            equal = "within tolerance"
        if "unavailable" in (a_status, b_status):
            equal = "unavailable"
        out.append(Compared(name, a, a_status, b, b_status, equal))
    return out


def shown(kind: str, value: float) -> Any:
    """A value of a view as people read it; None for null."""
    if np.isnan(value):
        return None
    if kind == "datetime":
        return to_iso(int(value))
    if kind == "bool":
        return bool(value)
    if kind == "int" and float(value).is_integer():
        return int(value)
    return float(value)


def _word(code: int) -> str:
    return Status(int(code)).name.lower()


def _near(a: Any, b: Any, tolerance: float) -> bool:
    both = isinstance(a, int | float) and isinstance(b, int | float)
    return both and tolerance > 0 and abs(a - b) <= tolerance * max(abs(a), abs(b))


def _part(kind: str, name: str, text: str) -> Any:
    try:
        if kind == "int":
            return int(text)
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise ContractError("MS-F110", f"{text!r} is no {kind}", where=f"entity column {name}") from None
    return text
