"""The keys whose latest vectors are nearest to a query: exact, from the online store or from history.

Every vector is compared: one pass over n · d numbers a query, 0.5 to 2.5 ns each as measured, like numpy's product.
Scores are computed a row at a time in a fixed order, so the same vectors give the same answer bit for bit, live and
offline, however they are laid out; equal scores are ordered by key, shorter keys first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.features import kernels as k
from mainspring.features import slides as s
from mainspring.features.compiled import compiled
from mainspring.features.keys import decode_key, encode_key
from mainspring.features.layout import GRACE_US, LONGEST_US, Layout, compile_view
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.state import H_CHANGED
from mainspring.features.status import Status
from mainspring.features.store import heads_of
from mainspring.features.windows import left_edge

if TYPE_CHECKING:
    import polars as pl

    from mainspring.definitions import Aggregate, ViewDef
    from mainspring.features.store import OnlineStore

Metric = Literal["cosine", "dot", "euclidean"]
METRICS: dict[str, int] = {"cosine": 0, "dot": 1, "euclidean": 2}
_COSINE, _EUCLIDEAN = METRICS["cosine"], METRICS["euclidean"]


@dataclass(frozen=True)
class Neighbour:
    """A key near a query.

    Attributes:
        key: The entity; the bytes of its hash if it is longer than the store's keys.
        score: Cosine (0 if either has no length), dot product, or euclidean distance.
    """

    key: tuple[Any, ...] | bytes
    score: float


class Nearest:
    """Nearest keys by a view's latest vectors in the online store, as of the moment asked about.

    The vectors are kept in memory (8 · d bytes a key) and brought up to date by each search: a look at every key's head
    (about a microsecond a key) if anything was folded since, and a read of those that changed. For one thread.

    Args:
        store: Open in any way.
        view: Whose feature.
        feature: Name of a ``last`` of a vector; its window and ``ttl`` hold.
        metric: ``cosine``, ``dot`` (greatest first) or ``euclidean`` (least first).

    Raises:
        ConfigError: The feature is no latest vector, or there is no such metric (MS-F120).
    """

    def __init__(self, store: OnlineStore, view: ViewDef, feature: str, metric: Metric = "cosine") -> None:
        self._feature = _vector_feature(view, feature, metric)
        self._view, self._metric, self._store = view, metric, store
        self._layout = _with_time(compile_view(view), self._feature)
        self._reader = Reader((), store)
        self._state = self._commits = -1
        self._offset = 0
        self._forget()

    def search(self, queries: np.ndarray, n: int, t_us: int) -> list[list[Neighbour]]:
        """The ``n`` nearest keys of each query, nearest first; fewer if fewer have a vector that holds.

        Args:
            queries: float64[m, d].
            n: How many.
            t_us: The moment; a vector counts if it was the latest before it, in the window and within ``ttl``.

        Raises:
            UnavailableError: The view is not caught up, or the moment is more than the grace behind (MS-F311).
        """
        with self._store.env.begin(buffers=True) as txn:
            root = self._store.root(txn)
            state = root.views.get(f"{self._view.name}@{self._view.version}")
            if state is None or state.offset != root.offset or t_us < root.clock_us - GRACE_US:
                what = (
                    "not caught up" if state is None or state.offset != root.offset else "past the moment asked about"
                )
                raise UnavailableError("MS-F311", f"view {self._view.name} is {what}", where=str(self._store.path))
            if state.id != self._state:
                self._forget()
                self._state, self._offset = state.id, -1
            if root.commits != self._commits:
                keys = self._changed(txn, state)
                self._put(keys, *self._read(txn, root, state, keys, LONGEST_US))
                self._commits, self._offset = root.commits, root.offset
            vectors, times = self._vectors[: len(self._keys)], self._times[: len(self._keys)]
            ahead = np.flatnonzero(times >= t_us)  # their latest vector is not yet there at the moment
            if len(ahead):
                then, when = self._read(txn, root, state, [self._keys[i] for i in ahead.tolist()], t_us)
                vectors, times = vectors.copy(), times.copy()
                vectors[ahead], times[ahead] = then, when
        holds = ~np.isnan(vectors[:, 0])
        feature, hop = self._feature, self._view.hop_us or 1
        if feature.window_us is not None:
            holds &= times >= left_edge(t_us, min(feature.window_us, LONGEST_US), hop)
        if feature.ttl_us is not None:
            holds &= t_us - times <= feature.ttl_us
        rows = np.flatnonzero(holds)
        found = search(
            np.ascontiguousarray(vectors[rows]), queries, n, self._metric, [self._keys[i] for i in rows.tolist()]
        )
        return [[Neighbour(decode_key(key), score) for key, score in one] for one in found]

    def _forget(self) -> None:
        self._keys: list[bytes] = []
        self._places: dict[bytes, int] = {}
        self._vectors = np.empty((0, self._feature.dim))
        self._times = np.empty(0)

    def _changed(self, txn: Any, state: Any) -> list[bytes]:
        """Keys of the view whose heads were written after the offset that this one stands at."""
        found = []
        with txn.cursor(self._store.heads) as cursor:
            for key in heads_of(cursor, state):
                changed = int.from_bytes(cursor.value()[8 * H_CHANGED : 8 * H_CHANGED + 8], "little", signed=True)
                if changed > self._offset:
                    found.append(key)
        return found

    def _read(self, txn: Any, root: Any, state: Any, keys: list[bytes], t_us: int) -> tuple[np.ndarray, np.ndarray]:
        """Latest vectors float64[n, d] before a moment, NaN for none, and their times float64[n], −inf if let go of."""
        snapshot = self._reader.within(txn, root)
        limits = np.full(len(keys), k.NEVER - 1)
        values, _ = snapshot.read_known(self._layout, state, keys, np.full(len(keys), t_us), limits)
        times = values[:, -1]
        return values[:, :-1], np.where(np.isnan(times), -np.inf, times)

    def _put(self, keys: list[bytes], vectors: np.ndarray, times: np.ndarray) -> None:
        places = [self._places.setdefault(key, len(self._places)) for key in keys]
        n = len(self._places)
        self._keys += list(self._places)[len(self._keys) :]
        if n > len(self._vectors):
            room = n + n // 2 + 16
            grown, when = np.full((room, self._feature.dim), np.nan), np.full(room, -np.inf)
            grown[: len(self._vectors)], when[: len(self._times)] = self._vectors, self._times
            self._vectors, self._times = grown, when
        self._vectors[places], self._times[places] = vectors, times


def nearest_then(
    view: ViewDef,
    feature: str,
    events: pl.DataFrame,
    queries: np.ndarray,
    n: int,
    t_us: int,
    *,
    known_us: int | None = None,
    known_offset: int | None = None,
    metric: Metric = "cosine",
) -> list[list[Neighbour]]:
    """What ``Nearest.search`` answers, at any moment of history.

    Args:
        view: Whose feature.
        feature: Name of a ``last`` of a vector.
        events: History of the view's sources, as ``replay`` takes it.
        queries: float64[m, d].
        n: How many neighbours of each.
        t_us: The moment.
        known_us: What was known: this or ``known_offset``, as ``replay`` takes them.
        known_offset: See ``known_us``.
        metric: As of ``Nearest``.

    Raises:
        ConfigError: The feature is no latest vector, or there is no such metric (MS-F120).
    """
    found = _vector_feature(view, feature, metric)
    entities = events.select(view.entity).drop_nulls().unique()
    values, status = replay(
        replace(view, features=(found,)), events, entities, np.full(len(entities), t_us), known_us, known_offset
    )
    rows = np.flatnonzero(status[:, 0] == Status.PRESENT)
    keys = [encode_key(row) or b"" for row in entities[rows].iter_rows()]
    answers = search(np.ascontiguousarray(values[rows]), queries, n, metric, keys)
    return [[Neighbour(decode_key(key), score) for key, score in one] for one in answers]


def search(
    vectors: np.ndarray, queries: np.ndarray, n: int, metric: Metric, keys: Sequence[bytes]
) -> list[list[tuple[bytes, float]]]:
    """The ``n`` nearest of ``vectors`` float64[v, d] to each of ``queries`` float64[m, d], with their keys and scores.

    >>> search(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0]]), 1, "cosine", [b"a", b"b"])
    [[(b'b', 0.7071067811865475)]]
    """
    asked = np.ascontiguousarray(queries, np.float64).reshape(-1, vectors.shape[1])
    scores = np.empty(len(vectors))
    out: list[list[tuple[bytes, float]]] = []
    for query in asked:
        score_all(vectors, query.copy(), METRICS[metric], scores)
        order = scores if metric == "euclidean" else -scores
        enough = min(n, len(vectors))
        if not enough:
            out.append([])
            continue
        worst = np.partition(order, enough - 1)[enough - 1]
        best = sorted((float(order[i]), keys[i], i) for i in np.flatnonzero(order <= worst).tolist())[:enough]
        out.append([(key, float(scores[i])) for _, key, i in best])
    return out


@compiled("float64(float64[::1], float64[::1])", allocates=False)
def dot(a: np.ndarray, b: np.ndarray) -> float:
    """Dot product, always added up in the same order: eight lanes, then the rest."""
    s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    whole = a.shape[0] - a.shape[0] % 8
    for j in range(0, whole, 8):
        s0 += a[j] * b[j]
        s1 += a[j + 1] * b[j + 1]
        s2 += a[j + 2] * b[j + 2]
        s3 += a[j + 3] * b[j + 3]
        s4 += a[j + 4] * b[j + 4]
        s5 += a[j + 5] * b[j + 5]
        s6 += a[j + 6] * b[j + 6]
        s7 += a[j + 7] * b[j + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for j in range(whole, a.shape[0]):
        total += a[j] * b[j]
    return total


@compiled("void(float64[:, ::1], float64[::1], int64, float64[::1])")
def score_all(vectors: np.ndarray, query: np.ndarray, metric: int, out: np.ndarray) -> None:
    """Score of each row, by itself."""
    away = np.empty_like(query)
    size = dot(query, query)
    for i in range(vectors.shape[0]):
        if metric == _EUCLIDEAN:
            for j in range(query.shape[0]):
                away[j] = vectors[i, j] - query[j]
            out[i] = np.sqrt(dot(away, away))
        else:
            score = dot(vectors[i], query)
            if metric == _COSINE:
                product = np.sqrt(dot(vectors[i], vectors[i]) * size)
                score = score / product if product > 0.0 else 0.0
            out[i] = score


def _vector_feature(view: ViewDef, name: str, metric: str) -> Aggregate:
    found = next((f for f in view.features if f.name == name), None)
    if found is None or found.function != "last" or found.value is None or found.value.kind != "vector":
        vectors = [f.name for f in view.features if f.function == "last" and f.dim > 1]
        hint = f"features that are: {', '.join(vectors) or 'none'}"
        raise ConfigError("MS-F120", f"{view.name}.{name} is no latest vector", hint=hint)
    if metric not in METRICS:
        raise ConfigError("MS-F120", f"{metric!r} is no metric", hint=f"one of {', '.join(METRICS)}")
    return found


def _with_time(layout: Layout, feature: Aggregate) -> Layout:
    """A layout over the same state that answers the feature's latest vector, however old, and then its time."""
    place = layout.view.first_slots[layout.view.features.index(feature)]
    row = layout.scan_plan[layout.scan_plan[:, k.P_OUT] == place][0].copy()
    row[k.P_WINDOW], row[k.P_TTL], row[k.P_OUT] = 0, -1, 0
    time = row.copy()
    time[k.P_FUNCTION], time[k.P_SLOTS], time[k.P_OUT] = s.F_LAST_TIME, 1, feature.dim
    return replace(
        layout,
        view=replace(layout.view, features=(feature, replace(feature, name="_time", dim=1))),
        plan=layout.plan[:0],
        parameters=layout.parameters[:0],
        windows=layout.windows[:0],
        scan_plan=np.stack((row, time)),
        scan_parameters=np.zeros(2),
        scan_windows=np.array([k.UNBOUNDED], np.int64),
    )
