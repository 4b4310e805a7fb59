"""The demo's report: one self-contained HTML page. Every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from mainspring.core import to_iso
from mainspring.core.spans import format_span
from mainspring.demo import plots
from mainspring.demo.findings import Findings
from mainspring.demo.record import STREAM

STYLE = files("mainspring.demo").joinpath("report.css").read_text(encoding="utf-8")


def write_report(findings: Findings, path: Path) -> None:
    """Write the page to ``path``."""
    path.write_text(page(findings), encoding="utf-8")


def page(findings: Findings) -> str:
    """The page as text."""
    sections = [
        _tiles(findings),
        _months(findings),
        f'<h2>The timeline</h2><div class="card">{plots.timeline(findings.decisions, findings.incidents)}</div>',
        _releases(findings),
        _incidents(findings),
        _happenings(findings),
        _events(findings),
        _parity(findings),
        _speed(findings),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Mainspring: flights out of New York</title><style>{STYLE}</style></head><body><main>"
        '<h1>Flights out of New York</h1><p class="sub">Raw events became a served model that watched itself, trained '
        "again, proved each release on live traffic and promoted it, or not.</p>"
        + "".join(sections)
        + "</main></body></html>"
    )


def _tiles(findings: Findings) -> str:
    account = findings.account
    promoted = sum(r.state == "promoted" for r in findings.rollouts)
    back = sum(r.state == "rolled_back" for r in findings.rollouts)
    tiles = [
        (f"{sum(findings.predictions.values()):,}", "predictions answered", ""),
        (f"{account.failed_requests}", "requests failed", "good" if not account.failed_requests else "bad"),
        (f"{sum(account.sent.values()):,}", "events sent", ""),
        (
            f"{findings.lost} / {findings.twice}",
            "events lost / counted twice",
            "good" if not findings.lost + findings.twice else "bad",
        ),
        (f"{promoted} / {back}", "releases live / rolled back", ""),
        (
            "-" if findings.parity.exact_share is None else f"{findings.parity.exact_share:.2%}",
            "features equal on replay",
            "good" if findings.parity.exact_share == 1.0 else "bad",
        ),
        (f"{findings.wall_s:.0f} s", "wall time", ""),
    ]
    inner = "".join(
        f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label, kind in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _months(findings: Findings) -> str:
    head = ["month", "flights", "late", "AUC served", "frozen", "static", "log loss served", "frozen", "static"]
    rows = []
    for m in findings.months:
        scores = [_number(m.roc_auc[k], 3) for k in ("served", "frozen", "static")]
        scores += [_number(m.log_loss[k], 3) for k in ("served", "frozen", "static")]
        rows.append([m.month, f"{m.rows:,}", f"{m.base_rate:.1%}", *scores])
    auc = plots.by_month(findings.months, "roc_auc", "AUC")
    loss = plots.by_month(findings.months, "log_loss", "Log loss (lower is better)")
    return (
        "<h2>The model month by month</h2><p>The same flights scored by what was served, by the first release left as "
        "it was, and by a model that sees only the request. Months differ in how hard they are: compare the lines, "
        f'not the months.</p><div class="two"><div class="card">{auc}</div><div class="card">{loss}</div></div>'
        f"<details><summary>as a table</summary>{_table(head, rows, numbers=range(1, 9))}</details>"
    )


def _releases(findings: Findings) -> str:
    rows = []
    for r in findings.rollouts:
        evidence = ", ".join(
            f"{k} {_number(v, 4)}" for k, v in sorted(r.evidence.items()) if isinstance(v, (int, float))
        )
        took = (
            format_span((r.ended_at_us - r.started_at_us) // 60_000_000 * 60_000_000) if r.ended_at_us else "under way"
        )
        state = f'<span class="state {escape(r.state)}">{escape(r.state.replace("_", " "))}</span>' + (
            " (forced)" if r.forced else ""
        )
        why = (
            f"{escape(r.reason)}<details><summary>numbers</summary><code>{escape(evidence)}</code></details>"
            if evidence
            else escape(r.reason)
        )
        rows.append([_at(r.started_at_us), f"<code>{escape(r.challenger)}</code>", state, escape(took), why])
    return "<h2>Releases, and on what evidence</h2>" + _table(
        ["released", "version", "outcome", "after", "why"], rows, raw=True
    )


def _incidents(findings: Findings) -> str:
    rows = [
        [_at(i.opened_us), _at(i.closed_us) if i.closed_us else "open", i.kind, i.reason, i.closing]
        for i in findings.incidents
    ]
    return "<h2>Incidents</h2>" + (
        _table(["opened", "closed", "kind", "what", "how it ended"], rows) if rows else "<p>None.</p>"
    )


def _happenings(findings: Findings) -> str:
    rows = [[_at(at_us), kind, text] for at_us, kind, text in findings.demo.happenings]
    return "<h2>What was done to it on purpose</h2>" + _table(["when", "what", ""], rows)


def _events(findings: Findings) -> str:
    account, by_source = findings.account, {one.source: one for one in findings.reconciliations}
    rows = []
    for source, n in account.sent.items():
        one = by_source[source]
        counts = (
            n,
            account.accepted[source],
            account.quarantined[source],
            account.duplicate[source],
            one.found,
            one.lost,
            one.twice,
        )
        rows.append([source, *(f"{c:,}" for c in counts)])
    head = ["source", "sent", "= accepted", "+ quarantined", "+ duplicate", "in log and lake", "lost", "twice"]
    mended = f"<p>{account.mended:,} records were mended in quarantine and replayed, and became known by that.</p>"
    return "<h2>Events, compared by ids with what was sent</h2>" + _table(head, rows, numbers=range(1, 8)) + mended


def _parity(findings: Findings) -> str:
    parity = findings.parity
    text = (
        f"A sample of {parity.predictions:,} predictions was replayed at the offset each had read: {parity.exact:,} of "
        f"{parity.values:,} feature values are exactly what was served, {parity.within_tolerance:,} within tolerance, "
        f"{parity.different:,} different. Apart from that, lag skew: {parity.lag.behind:,} predictions had not yet "
        "seen an event that was known when they were asked."
    )
    return f"<h2>Served features against replay</h2><p>{escape(text)}</p>"


def _speed(findings: Findings) -> str:
    account = findings.account
    rows = [[name, f"{seconds:.1f}"] for name, seconds in findings.demo.steps_s.items()]
    streamed_s = findings.demo.steps_s[STREAM]
    facts = (
        f"p50 {account.latency(0.5):.1f} ms, p99 {account.latency(0.99):.1f} ms over {len(account.latencies_ms):,} "
        f"requests. {len(account.latencies_ms) / streamed_s:.0f} predictions and {findings.streamed / streamed_s:.0f} "
        "other events a second went through the whole loop, each durable and folded before the clock moved on, while "
        "intake, worker, gateway and this driver share the machine."
    )
    plot = plots.latencies(account.latencies_ms)
    return (
        f'<h2>Speed</h2><div class="two"><div class="card">{plot}<p>{escape(facts)}</p></div>'
        f'<div class="card">{_table(["step", "seconds"], rows, numbers=[1])}</div></div>'
    )


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = (), raw: bool = False
) -> str:
    """A table; cells are escaped unless ``raw`` says that they are markup already."""
    right = set(numbers)
    cls = ['class="n"' if i in right else "" for i in range(len(head))]
    top = "".join(f"<th {cls[i]}>{escape(text)}</th>" for i, text in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td {cls[i]}>{cell if raw else escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _at(time_us: int) -> str:
    return to_iso(time_us)[:16].replace("T", " ")


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 1e6 else f"{value:.2g}"
