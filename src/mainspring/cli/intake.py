"""``mainspring intake``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, Port, ProcessOptions
from mainspring.cli.process import run_process

app = App(
    name="intake",
    help_epilogue="""It runs until Ctrl-C or SIGTERM, and finishes what it has begun. `mainspring up` starts all three.

Examples:
  mainspring intake
  mainspring intake -C my_project
  mainspring intake --port 0        on a free port; `mainspring status` shows which
  curl -d '{...}' http://127.0.0.1:7071/events/SOURCE""",
)


@app.default
def intake(*, port: Port = None, options: Options = DEFAULT, process: ProcessOptions = DEFAULT_PROCESS) -> None:
    """Start the intake: the only writer of the log. Events come over HTTP and are answered once they are durable."""
    from mainspring.events.intake_process import run_intake

    run_process(run_intake, options, process, door="intake", port=port)
