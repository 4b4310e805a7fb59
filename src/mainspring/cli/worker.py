"""``mainspring worker``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, ProcessOptions
from mainspring.cli.process import run_process

app = App(
    name="worker",
    help_epilogue="""It runs until Ctrl-C or SIGTERM, and finishes what it has begun. `mainspring up` starts all three.

Examples:
  mainspring worker
  mainspring worker -C my_project""",
)


@app.default
def worker(*, options: Options = DEFAULT, process: ProcessOptions = DEFAULT_PROCESS) -> None:
    """Start the worker: folds the log into the online store, writes the lake, runs pipelines and controller."""
    from mainspring.loop.worker import run_worker

    run_process(run_worker, options, process)
