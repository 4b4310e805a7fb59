"""Counters and histograms as Prometheus reads them, without a lookup by label on the way of a request.

Each model and variant has its own objects, found once when a route is loaded. One event loop writes them and the same
loop renders them, so there are no locks.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import MainspringError
from mainspring.features.status import Status
from mainspring.serving.inference import NOT_LOADED
from mainspring.serving.unanimous import Unanimous

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.serving.composed import Composition
    from mainspring.serving.inference import Choice

LATENCY_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PARTS = ("total", "queue", "features", "model")
_REASONS = {
    "MS-S101": "malformed",
    "MS-S102": "too_large",
    "MS-S126": "too_large",
    "MS-S103": "moment",
    "MS-S115": "malformed",
    "MS-S140": "malformed",
}


_NOT_PRESENT = tuple(code for code in Status if code is not Status.PRESENT)


class Histogram:
    """Counts by upper bound, as Prometheus has them."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_S) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many values were seen."""
        return sum(self._counts)

    def observe(self, value: float, times: int = 1) -> None:
        """See ``value``, ``times`` over."""
        self._counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times

    def observe_all(self, values: Sequence[float]) -> None:
        """See each of ``values``."""
        bounds, counts = self._bounds, self._counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.sum += sum(values)

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The lines of the exposition format; ``labels`` is ``a="b",`` and so on, or empty."""
        below = 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            edge = "+Inf" if bound == float("inf") else repr(bound)
            yield f'{name}_bucket{{{labels}le="{edge}"}} {below}'
        yield f"{name}_sum{{{labels.rstrip(',')}}} {self.sum!r}"
        yield f"{name}_count{{{labels.rstrip(',')}}} {below}"


class VariantMetrics:
    """What one variant of one model has done.

    Attributes:
        requests: Rows that it answered.
        inferences: Rows that it scored, those of a shadow included.
        executions: Runs of the model: mean batch = inferences / executions.
        failures: Rows by reason of failure.
        breaker_open: Whether it is left alone because it lately failed or was slow.
    """

    __slots__ = ("breaker_open", "executions", "failures", "inferences", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.inferences = 0
        self.executions = 0
        self.failures: dict[str, int] = {}
        self.breaker_open = 0

    def failed(self, reason: str, rows: int = 1) -> None:
        """Count rows that failed."""
        self.failures[reason] = self.failures.get(reason, 0) + rows


class ModelMetrics:
    """What the gateway has done for one model."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.variants = {name: VariantMetrics() for name in ("champion", "challenger", "fallback")}
        self.answers = 0
        self.rejected: dict[str, int] = {}
        self.fallbacks: dict[tuple[str, str], int] = {}
        self.rules: dict[str, int] = {}
        self.cache_hits = 0
        self.cache_misses = 0
        self.cache_bytes = 0
        self.members: dict[tuple[str, str], int] = {}
        self.latency = {part: Histogram() for part in PARTS}
        self.served: dict[str, list[int]] = {}
        self.shadow_skipped = 0

    def count_views(
        self, views: Iterable[tuple[ViewDef, object]], blocks: Iterable[tuple[object, npt.NDArray[np.uint8]]]
    ) -> None:
        """Count values of views by their status, as they were read for a batch."""
        for (view, _), (_, status) in zip(views, blocks, strict=True):
            self.count_features(view.name, status)

    def count_features(self, view: str, status: npt.NDArray[np.uint8]) -> None:
        """Count values of a view by their status (``features.status``)."""
        counts = self.served.get(view)
        if counts is None:
            counts = self.served[view] = [0] * len(Status)
        codes = status.tobytes()
        present = codes.count(Status.PRESENT)
        counts[Status.PRESENT] += present
        if present < len(codes):
            for code in _NOT_PRESENT:
                counts[code] += codes.count(code)

    def _fall_back(self, to: str, reason: str) -> None:
        """Count a row that was answered by something else than the model that was drawn."""
        self.fallbacks[to, reason] = self.fallbacks.get((to, reason), 0) + 1

    def told(self, choices: Sequence[Choice | None]) -> None:
        """Count what the clients of rows were told; nothing of a row that is None."""
        if isinstance(choices, Unanimous):
            self.variants[choices.variant].requests += len(choices)
            return
        for choice in choices:
            if choice is None:
                continue
            if choice.output is None:
                if choice.error == NOT_LOADED:
                    self.reject(NOT_LOADED)
                continue
            self.variants[choice.variant].requests += 1
            if choice.fallback is not None:
                self._fall_back(choice.fallback, choice.error or "")
            for rule in choice.rules:
                self.rules[rule] = self.rules.get(rule, 0) + 1
            if choice.composition is not None:
                self._composed(choice.composition)

    def _composed(self, whole: Composition) -> None:
        """Count the members of a composite that were asked about a row, and the one that answered it."""
        for name, _ in whole.said:
            self.members[name, "asked"] = self.members.get((name, "asked"), 0) + 1
        if whole.member is not None:
            self.members[whole.member, "answered"] = self.members.get((whole.member, "answered"), 0) + 1

    def reject(self, reason: str, rows: int = 1) -> None:
        """Count rows that no model was asked about."""
        self.rejected[reason] = self.rejected.get(reason, 0) + rows


_HELP = (
    ("answers_total", "counter", "Requests answered, of one row or many."),
    ("requests_total", "counter", "Rows answered, by the variant that answered."),
    ("inferences_total", "counter", "Rows scored, those of a shadow included."),
    ("executions_total", "counter", "Runs of a model; inferences / executions is the mean batch."),
    ("failures_total", "counter", "Rows that a variant could not score, by reason."),
    ("breaker_open", "gauge", "1 where a variant is left alone because it lately failed or was slow."),
    ("fallbacks_total", "counter", "Rows answered by what was fallen back to, by what that was and why."),
    ("rules_total", "counter", "Rows whose answer an output rule changed, by rule."),
    ("members_total", "counter", "Rows of a composite that a member was asked about, and of a cascade answered."),
    ("cache_hits_total", "counter", "Rows answered again from the cache that the model declares."),
    ("cache_misses_total", "counter", "Rows that the cache did not know."),
    ("cache_bytes", "gauge", "What the cache keeps, about."),
    ("rejected_total", "counter", "Rows that no model was asked about, by reason."),
    ("features_served_total", "counter", "Feature values read, by view and status."),
    ("shadow_skipped_total", "counter", "Rows that a shadow did not score because it was behind."),
    ("latency_seconds", "histogram", "Time of a row, by part."),
)


def render(models: list[ModelMetrics], gauges: dict[str, float]) -> str:
    """The exposition text: every model's metrics, then process-wide ``gauges`` by name."""
    lines: list[str] = []
    for name, kind, text in _HELP:
        lines += [f"# HELP mainspring_{name} {text}", f"# TYPE mainspring_{name} {kind}"]
        for metrics in models:
            lines += _lines(f"mainspring_{name}", name, metrics)
    for name, value in gauges.items():
        lines += [f"# TYPE mainspring_{name} gauge", f"mainspring_{name} {_written(value)}"]
    return "\n".join(lines) + "\n"


def _written(value: float) -> str:
    """Every digit of it: a counter that is rounded goes up in steps."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _quoted(text: str) -> str:
    """A label's value: rules are named by people."""
    return json.dumps(text, ensure_ascii=False)


def _lines(full: str, name: str, metrics: ModelMetrics) -> Iterator[str]:
    model = f'model="{metrics.model}"'  # names are [a-z0-9_]+, so nothing needs escaping
    match name:
        case "requests_total" | "inferences_total" | "executions_total" | "breaker_open":
            for variant, one in metrics.variants.items():
                yield f'{full}{{{model},variant="{variant}"}} {getattr(one, name.removesuffix("_total"))}'
        case "failures_total":
            for variant, one in metrics.variants.items():
                for reason, count in one.failures.items():
                    yield f'{full}{{{model},variant="{variant}",reason="{reason}"}} {count}'
        case "features_served_total":
            yield from (
                f'{full}{{{model},view="{view}",status="{status.name.lower()}"}} {count}'
                for view, counts in metrics.served.items()
                for status, count in zip(Status, counts, strict=True)
            )
        case "fallbacks_total" | "rules_total" | "members_total" | "rejected_total":
            yield from (f"{full}{{{model},{labels}}} {count}" for labels, count in _by_label(name, metrics))
        case "latency_seconds":
            for part, histogram in metrics.latency.items():
                yield from histogram.lines(full, f'{model},part="{part}",')
        case _:
            yield f"{full}{{{model}}} {getattr(metrics, name.removesuffix('_total'))}"


def _by_label(name: str, metrics: ModelMetrics) -> Iterator[tuple[str, int]]:
    match name:
        case "fallbacks_total":
            yield from ((f'to="{to}",reason="{why}"', count) for (to, why), count in metrics.fallbacks.items())
        case "members_total":
            yield from ((f'member="{one}",was="{was}"', count) for (one, was), count in metrics.members.items())
        case "rules_total":
            yield from ((f"rule={_quoted(rule)}", count) for rule, count in metrics.rules.items())
        case _:
            yield from ((f'reason="{reason}"', count) for reason, count in metrics.rejected.items())


def reason_of(error: MainspringError) -> str:
    """The reason that a refused request is counted under."""
    return _REASONS.get(error.code, "contract")
