"""``mainspring up``."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, ProcessOptions
from mainspring.cli.workspace import CHANGED, Workspace

app = App(
    name="up",
    help_epilogue="""Intake, gateway and worker as processes of their own, and one for the connectors if mainspring.toml
declares any. One that dies is started again, after a back-off. Ctrl-C stops them in order: connectors,
gateway, worker, intake. Nothing is left behind.

Examples:
  mainspring up
  mainspring up -C my_project
  mainspring up --json            where it listens, on one line, once it is up""",
)


@app.default
def up(*, options: Options = DEFAULT, process: ProcessOptions = DEFAULT_PROCESS) -> None:
    """Start intake, gateway and worker together, and look after them."""
    from mainspring.core.children import Exit
    from mainspring.definitions.applied import has_changed
    from mainspring.events.connectors.declared import declared
    from mainspring.loop.supervisor import Supervisor

    workspace = Workspace(options.project, as_applied=True)
    if has_changed(workspace.config):
        terminal.say(options, CHANGED)
    for one in declared(workspace.config, workspace.project).values():  # what is broken is said here, not in a log
        one.settings()

    def heard(one: Exit) -> None:
        if options.json:
            ended = {"event": "ended", "process": one.name, "code": one.code, "again_in_s": one.again_in_s}
            ended["log"] = str(supervisor.log_path(one.name))
            print(json.dumps(ended), file=sys.stderr, flush=True)
            return
        terminal.say(options, f"{one.name} ended with {one.code}; it is started again in {one.again_in_s:g} s")
        terminal.say(options, supervisor.tail(one.name, 5))

    def slow(what: str) -> None:
        terminal.say(options, what)

    supervisor = Supervisor(workspace.config, clock_file=process.test_clock, on_slow=slow)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with supervisor:
            urls = supervisor.urls()
            if options.json:
                print(json.dumps({"urls": urls, "pids": supervisor.pids()}), flush=True)
            else:
                pids = supervisor.pids()
                rows = [(name, urls.get(name, ""), pid) for name, pid in pids.items()]
                rows += [("gateway, gRPC", urls["grpc"], pids["gateway"])] if "grpc" in urls else []
                terminal.answer(options, None, terminal.table(("process", "url", "pid"), rows, right=("pid",)))
                terminal.say(options, f"logs are in {workspace.config.run / 'logs'}; Ctrl-C stops everything")
            supervisor.watch(heard)
    except KeyboardInterrupt:
        terminal.say(options, "everything is stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
