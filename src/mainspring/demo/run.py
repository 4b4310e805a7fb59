"""The demo from end to end: drive, read back, report, stop everything."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from mainspring.demo.display import Display
from mainspring.demo.driver import AFTER_US, Driver
from mainspring.demo.findings import Findings, gather
from mainspring.demo.places import prepare_folder
from mainspring.demo.report import write_report

REPORT = "report.html"


def run_demo(folder: Path, *, quick: bool, keep: bool, console: Console) -> Findings:
    """Run the demo in ``folder`` and write its report there.

    Whatever happens, Ctrl-C included, no process and no port is left behind; with ``keep`` the system stays up after a
    complete run until Ctrl-C.

    Args:
        folder: Project folder; one that the demo made before is emptied.
        quick: Seven weeks rather than nine months.
        keep: Leave the system up at the end and print its URLs.
        console: Where to show it.
    """
    started = time.perf_counter()
    prepare_folder(folder)
    before = signal.signal(signal.SIGTERM, _interrupt)
    with Display(console) as display:
        driver = Driver(folder, display, quick=quick)
        try:
            demo = driver.run()
            display.stage("reading everything back and comparing it with what was sent")
            with demo.step("compare, score and replay a sample"):
                findings = gather(demo, driver.end_us + AFTER_US)
            findings = findings.timed(time.perf_counter() - started)
            write_report(findings, folder / REPORT)
            show(findings, folder / REPORT, console)
            if keep:
                display.say(
                    "the system stays up until Ctrl-C: "
                    + ", ".join(f"{n} {u}" for n, u in driver.supervisor.urls().items())
                )
                driver.supervisor.watch()
        except KeyboardInterrupt:
            driver.supervisor.stop()  # first, so that what is said is so
            console.print(f"stopped: nothing is left running; the project is in {folder}", highlight=False)
            raise
        finally:
            driver.supervisor.stop()
            signal.signal(signal.SIGTERM, before)
    return findings


def show(findings: Findings, report: Path, console: Console) -> None:
    """The report in the terminal."""
    table = Table(
        title="The same flights: served, first release frozen, static features",
        title_justify="left",
        box=None,
        padding=(0, 2),
    )
    for name in ("month", "flights", "AUC served", "frozen", "static", "log loss served", "frozen", "static"):
        table.add_column(name, justify="left" if name == "month" else "right")
    for m in findings.months:
        scores = [m.roc_auc[k] for k in ("served", "frozen", "static")] + [
            m.log_loss[k] for k in ("served", "frozen", "static")
        ]
        table.add_row(m.month, f"{m.rows:,}", *("–" if s is None else f"{s:.3f}" for s in scores))
    console.print(table)
    account = findings.account
    events = Table(title="Events by id", title_justify="left", box=None, padding=(0, 2))
    for name in ("source", "sent", "accepted", "quarantined", "duplicate", "lost", "twice"):
        events.add_column(name, justify="left" if name == "source" else "right")
    for one in findings.reconciliations:
        s = one.source
        counts = (
            account.sent[s],
            account.accepted[s],
            account.quarantined[s],
            account.duplicate[s],
            one.lost,
            one.twice,
        )
        events.add_row(s, *(f"{n:,}" for n in counts))
    console.print(events)
    for rollout in findings.rollouts:
        console.print(f"  {rollout.challenger} {rollout.state.replace('_', ' ')}: {rollout.reason}", highlight=False)
    parity = findings.parity
    console.print(
        f"parity: {parity.exact:,} of {parity.values:,} served feature values equal on replay at the logged offset "
        f"({parity.within_tolerance:,} within tolerance, {parity.different:,} different); "
        f"lag skew: {parity.lag.behind:,} predictions",
        highlight=False,
    )
    console.print(
        f"latency p50 {account.latency(0.5):.1f} ms, p99 {account.latency(0.99):.1f} ms; "
        f"failed requests {account.failed_requests}; wall time {findings.wall_s:.0f} s",
        highlight=False,
    )
    console.print(f"report: {report}", highlight=False)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
