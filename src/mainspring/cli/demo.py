"""``mainspring demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options

app = App(
    name="demo",
    help_epilogue="""Real processes on free ports, a year of flights out of New York, nine minutes on two cores.
A model is trained on January to March and released; April to December are streamed. Feeds break, a bad release
is pushed, the worker is killed: watch what the system does about it. It ends with a report in the
terminal and as one HTML file.

Examples:
  mainspring demo
  mainspring demo --quick            seven weeks instead of nine months
  mainspring demo --keep             leave the system up at the end, until Ctrl-C
  mainspring demo --folder my_demo""",
)


@app.default
def demo(
    *,
    quick: Annotated[bool, Parameter(negative="")] = False,
    keep: Annotated[bool, Parameter(negative="")] = False,
    folder: Path = Path("mainspring-demo"),
    options: Options = DEFAULT,
) -> None:
    """Run the whole loop on a year of real flights.

    Args:
        quick: Seven weeks instead of nine months.
        keep: Leave the system up at the end and print its URLs.
        folder: Where the demo's project is made; one that an earlier demo made is emptied.
        options: Where the project is, and how to answer.
    """
    from mainspring.demo.run import run_demo

    findings = run_demo(folder, quick=quick, keep=keep, console=terminal.console(stderr=options.json))
    if options.json:
        print(json.dumps(findings.to_dict(), indent=2, default=str))
