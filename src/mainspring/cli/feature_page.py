"""What ``mainspring features describe`` shows of a view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mainspring.cli import terminal
from mainspring.core.spans import format_span

if TYPE_CHECKING:
    from rich.console import RenderableType


def described(data: dict[str, Any]) -> list[RenderableType]:
    """A view as a terminal shows it, from what ``loop.views.describe_view`` found."""
    out: list[RenderableType] = [terminal.text(f"{data['view']} {data['version']}", "bold")]
    if data["doc"]:
        out.append(terminal.text(data["doc"]))
    by = f"by {', '.join(data['entity'])}" + (f", windows begin at multiples of {data['hop']}" if data["hop"] else "")
    out.append(terminal.text(by))
    rows: list[tuple[Any, ...]] = [
        (
            s["name"],
            s["version"][:12],
            s["id"] or "none: not deduplicated",
            f"{s.get('events', 0):,}",
            s.get("newest_time", "-"),
            _age(s.get("age_s")),
        )
        for s in data["sources"]
    ]
    columns: tuple[str, ...] = ("source", "version", "id", "events", "newest event", "known since")
    out.append(terminal.table(columns, rows, right=("events", "known since")))
    out.extend(terminal.text(f"each event carries the features of {u['view']} {u['version']}") for u in data["using"])
    rows = [
        (
            f["name"],
            _function(f),
            f["window"],
            f["kind"],
            f["error"],
            _bytes(f.get("state_bytes")),
            *_statistics(f.get("statistics")),
            _number(f.get("newest_day", {}).get("psi")),
        )
        for f in data["features"]
    ]
    columns = (
        "feature",
        "of",
        "window",
        "kind",
        "error",
        "state",
        "values",
        "nulls",
        "min",
        "p50",
        "p99",
        "max",
        "psi",
    )
    out.append(terminal.table(columns, rows, right=columns[5:]))
    if data["derived"]:
        rows = [(d["name"], d["expression"], d["kind"]) for d in data["derived"]]
        out.append(terminal.table(("derived", "expression", "kind"), rows))
    used = data["used_by"]
    readers = [(name, "model", ", ".join(features)) for name, features in used["models"].items()]
    readers += [(name, "view", "enriches its events") for name in used["views"]]
    readers += [
        (r["model"], f"release, {r['role']}", f"{r['version']} reads {r['view_version']}") for r in used["releases"]
    ]
    out.append(terminal.table(("used by", "as", ""), readers))
    rows = [
        (
            v["version"],
            "definitions file" if v["defined"] else "earlier",
            "-" if v["offset"] is None else f"folded up to {v['offset']:,}",
            "a release" if v["needed_by_release"] else "-",
        )
        for v in data["versions"]
    ]
    out.append(terminal.table(("version", "of", "state", "needed by"), rows))
    state = data["state"]
    if state is None:
        out.append(terminal.text("no state yet: it is built when the definitions are applied"))
        return out
    at_least = "" if state["is_whole"] else "at least "
    room = f"{at_least}{state['keys']:,} keys, {_bytes(state['bytes'])} ({state['bytes_per_key']:,.0f} B a key)"
    behind = f"{state['lag_records']:,} records behind ({state['lag_s']:.1f} s)"
    serves = "" if state["serves"] else "; it does not serve yet"
    out.append(terminal.text(f"state: {room}, {behind}, {state['too_old']:,} events came too late{serves}"))
    return out


def _function(feature: dict[str, Any]) -> str:
    more = [f"{k}={feature[k]}" for k in ("k", "q", "half_life", "per", "ttl", "where") if k in feature]
    return f"{feature['function']}({', '.join([*([feature['value']] if feature['value'] else []), *more])})"


def _statistics(found: dict[str, Any] | None) -> tuple[str, ...]:
    if found is None:
        return ("-",) * 6
    numbers = (_number(found[name]) for name in ("min", "p50", "p99", "max"))
    return (f"{found['values']:,}", f"{found['nulls']:,}", *numbers)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _bytes(n: float | None) -> str:
    if n is None:
        return "-"
    for unit in ("B", "KB", "MB"):
        if n < 1_000:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1_000
    return f"{n:,.1f} GB"


def _age(age_s: float | None) -> str:
    return "-" if age_s is None else format_span(int(age_s) * 1_000_000)
