"""What ``mainspring load`` shows of what it measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mainspring.cli import terminal

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.load.capacity import Capacity, Limit
    from mainspring.load.measure import Level

_ENDED = {
    "too slow": "above it latency is over the target",
    "errors": "above it too many requests fail",
    "the sender was late": "above it the sender itself was late: more --processes, or another machine, may show more",
    "most": "nothing above it was tried",
}


def level_json(level: Level, limit: Limit) -> dict[str, Any]:
    """One rate as ``--json`` shows it."""
    return {
        "stage": level.stage.name,
        "rate": level.stage.rate,
        "seconds": level.stage.seconds,
        "sent": level.sent,
        "answered_per_s": level.answered_per_s,
        "latency_ms": {f"p{q * 100:g}": _finite(ms) for q, ms in level.quantiles_ms.items()}
        | {"most": _finite(level.most_ms)},
        "errors": level.errors,
        "fallbacks": level.fallbacks,
        "sender_late_p99_ms": _finite(level.late_ms),
        "verdict": limit.verdict(level),
    }


def capacity_json(found: Capacity, counts: Sequence[int], need: float | None, headroom: float) -> dict[str, Any]:
    """The capacity and its plan as ``--json`` shows them."""
    from mainspring.load.capacity import needed, plan

    data: dict[str, Any] = {
        "capacity": found.rate,
        "ended_by": found.ended_by,
        "headroom": headroom,
        "replicas": [
            {"count": one.count, "all_up": one.all_up, "planned": one.planned, "one_lost": one.one_lost}
            for one in plan(found.rate, counts, headroom=headroom)
        ],
    }
    if need is not None and found.rate:
        data |= {"need": need, "needed_replicas": needed(found.rate, need, headroom=headroom)}
    return data


def shown(levels: Sequence[Level], limit: Limit, data: dict[str, Any]) -> list[RenderableType]:
    """All of it as a terminal shows it."""
    quantiles = ("p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "most ms")
    columns = ("rate/s", "sent", "answered/s", *quantiles, "failed", "late ms", "")
    rows = [
        (
            f"{level.stage.rate:,.0f}",
            f"{level.sent:,}",
            f"{level.answered_per_s:,.0f}",
            *(_ms(ms) for ms in level.quantiles_ms.values()),
            _ms(level.most_ms),
            f"{level.error_share:.2%}" if level.errors else "-",
            _ms(level.late_ms),
            _note(level, limit),
        )
        for level in levels
    ]
    out: list[RenderableType] = [terminal.table(columns, rows, right=columns[:-1])]
    kinds: dict[str, int] = {}
    for level in levels:
        for kind, count in level.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    if kinds:
        failed = [(f"{count:,}", kind) for kind, count in sorted(kinds.items(), key=lambda one: -one[1])]
        out.append(terminal.table(("failed", "how"), failed, right=("failed",)))
    if any(level.fallbacks for level in levels):
        out.append(
            terminal.text("some answers came from a fallback: mainspring status, and the gateway's log", "yellow")
        )
    if "capacity" in data:
        out += _capacity(limit, data)
    else:
        out.append(terminal.text(f"target: {_kept(limit)}", "dim"))
    return out


def _capacity(limit: Limit, data: dict[str, Any]) -> list[RenderableType]:
    kept = _kept(limit)
    if not data["capacity"]:
        return [terminal.text(f"no rate kept {kept}: {_ENDED[data['ended_by']].removeprefix('above it ')}", "bold red")]
    said = f"capacity: {data['capacity']:,.0f} requests/s at {kept} ({_ENDED[data['ended_by']]})"
    rows = [
        (one["count"], f"{one['all_up']:,.0f}", f"{one['planned']:,.0f}", f"{one['one_lost']:,.0f}")
        for one in data["replicas"]
    ]
    columns = ("replicas", "at the limit", f"with {data['headroom']:.0%} free", "at the limit, one lost")
    out: list[RenderableType] = [terminal.text(said, "bold"), terminal.table(columns, rows, right=columns)]
    if "needed_replicas" in data:
        need = f"{data['need']:,.0f} requests/s need {data['needed_replicas']} replicas"
        out.append(terminal.text(f"{need}: with {data['headroom']:.0%} free, and enough when one is lost", "bold"))
    out.append(terminal.text("each replica on cores of its own, as this one and its sender had together", "dim"))
    return out


def _kept(limit: Limit) -> str:
    return f"p{limit.quantile * 100:g} under {limit.under_ms:g} ms, at most {limit.errors:.2%} failed"


def _note(level: Level, limit: Limit) -> str:
    name, verdict = level.stage.name, limit.verdict(level)
    return ", ".join([*([name] if name != "steady" else []), *([verdict] if verdict != "kept" else [])])


def _ms(ms: float) -> str:
    return "-" if math.isnan(ms) else f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"


def _finite(ms: float) -> float | None:
    return None if math.isnan(ms) else ms
