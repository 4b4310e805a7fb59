"""``mainspring serve``."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, Port, ProcessOptions, is_port
from mainspring.cli.process import prepare

app = App(
    name="serve",
    help_epilogue="""It runs until Ctrl-C or SIGTERM, and finishes what it has begun. `mainspring up` starts all three.

Examples:
  mainspring serve
  mainspring serve -C my_project
  mainspring serve --port 0        on a free port; `mainspring status` shows which
  mainspring serve --workers 2     two processes on one port; `workers = 2` under [gateway] for good
  curl -d '{...}' http://127.0.0.1:7070/predict/MODEL
  open http://127.0.0.1:7070/docs  what is served; gRPC as well with `grpc = 7080` under [gateway]""",
)


@app.default
def serve(
    *,
    port: Port = None,
    workers: Annotated[
        int | None, Parameter(validator=Number(gte=1, lte=256), help="Processes that share the port.")
    ] = None,
    grpc: Annotated[
        int | None,
        Parameter(validator=is_port, help="Port of the gRPC door."),
    ] = None,
    worker: Annotated[int, Parameter(show=False)] = 0,
    parent: Annotated[int, Parameter(show=False)] = 0,
    inner: Annotated[int, Parameter(show=False)] = 0,
    options: Options = DEFAULT,
    process: ProcessOptions = DEFAULT_PROCESS,
) -> None:
    """Start the gateway: predictions by plain JSON and the Open Inference Protocol V2, over HTTP and gRPC."""
    asked = {"port": port, "workers": workers, "grpc": grpc}
    changes = {name: value for name, value in asked.items() if value is not None}
    workspace, config, stop = prepare(options, process, "gateway", changes)
    if worker == 0 and config.gateway.workers > 1:
        from mainspring.serving.workers import run_workers

        argv = [sys.executable, "-m", "mainspring", "serve", "-C", str(config.root), "--supervised"]
        argv += ["--workers", str(config.gateway.workers)]
        if process.test_clock is not None:
            argv += ["--test-clock", str(process.test_clock)]
        run_workers(config, argv, stop)
    else:
        from mainspring.serving.gateway import run_gateway
        from mainspring.serving.siblings import Seat
        from mainspring.serving.workers import await_former

        if worker == 0:
            await_former(config, stop)
        run_gateway(config, workspace.project, workspace.clock, stop, seat=Seat(parent, worker, inner))
