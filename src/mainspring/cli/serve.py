"""``mainspring serve``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.options import DEFAULT, DEFAULT_PROCESS, Options, Port, ProcessOptions
from mainspring.cli.process import run_process

app = App(
    name="serve",
    help_epilogue="""It runs until Ctrl-C or SIGTERM, and finishes what it has begun. `mainspring up` starts all three.

Examples:
  mainspring serve
  mainspring serve -C my_project
  mainspring serve --port 0        on a free port; `mainspring status` shows which
  curl -d '{...}' http://127.0.0.1:7070/predict/MODEL
  open http://127.0.0.1:7070/docs  what is served; gRPC as well with `grpc = 7080` under [gateway]""",
)


@app.default
def serve(*, port: Port = None, options: Options = DEFAULT, process: ProcessOptions = DEFAULT_PROCESS) -> None:
    """Start the gateway: predictions by plain JSON and the Open Inference Protocol V2, over HTTP and gRPC."""
    from mainspring.serving.gateway import run_gateway

    run_process(run_gateway, options, process, door="gateway", port=port)
