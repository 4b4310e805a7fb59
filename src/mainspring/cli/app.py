"""``mainspring``: reads the command line, runs a command, turns errors into messages and exit codes.

Nothing heavy is imported here: `mainspring --help` starts in a fraction of a second, a command imports what it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from mainspring.cli import terminal
from mainspring.core.errors import MainspringError, UsageError

INTERRUPTED = 130
_GLOBAL = ("-C", "--project")


def _version() -> str:
    from mainspring import __version__

    return __version__


app = App(
    name="mainspring",
    help="An ML system in a box: from raw events to a served, watched, self-renewing model.",
    help_format="plaintext",
    help_epilogue="""Start here:
  mainspring demo                 watch the whole loop run on a year of flights
  mainspring init DATA.csv        make a project from a file of your own

Every command has --help with examples, --json, and -C DIR for a project elsewhere.
Exit codes are in docs/reference/cli.md.""",
    version=_version,
)
app.command("mainspring.cli.init:app", name="init", help="Make a project from a CSV or Parquet file.")
app.command("mainspring.cli.plan:app", name="plan", help="Show what an apply would change, and what it costs.")
app.command("mainspring.cli.apply:app", name="apply", help="Put the definitions file in force.")
app.command("mainspring.cli.up:app", name="up", help="Start intake, gateway and worker together.")
app.command("mainspring.cli.intake:app", name="intake", help="Start the intake: events over HTTP into the log.")
app.command("mainspring.cli.serve:app", name="serve", help="Start the gateway: predictions over HTTP.")
app.command("mainspring.cli.worker:app", name="worker", help="Start the worker: folds, pipelines, monitor, controller.")
app.command("mainspring.cli.ingest:app", name="ingest", help="Load a file of events into a source.")
app.command("mainspring.cli.connect:app", name="connect", help="List, check and run connectors: what brings rows in.")
app.command("mainspring.cli.dataset:app", name="dataset", help="Build training sets.")
app.command("mainspring.cli.train:app", name="train", help="Train a model, and release it if asked to.")
app.command("mainspring.cli.status:app", name="status", help="Show what exists, what serves and what is wrong.")
app.command("mainspring.cli.release:app", name="release", help="Start a rollout of a trained version.")
app.command("mainspring.cli.promote:app", name="promote", help="Make the challenger the champion by hand.")
app.command(
    "mainspring.cli.rollback:app", name="rollback", help="Drop the challenger, or go back to the last good version."
)
app.command("mainspring.cli.pause:app", name="pause", help="Hold a rollout: the champion serves everybody.")
app.command("mainspring.cli.resume:app", name="resume", help="Let a paused rollout go on.")
app.command(
    "mainspring.cli.contract:app", name="contract", help="A source's contract: infer, check, compare, export, import."
)
app.command("mainspring.cli.features:app", name="features", help="Feature views: list, show, compare, build.")
app.command("mainspring.cli.checks:app", name="checks", help="Checks of sources: list, run, history, accept.")
app.command("mainspring.cli.catalog:app", name="catalog", help="Find what there is: owners, lineage, who reads what.")
app.command("mainspring.cli.lake:app", name="lake", help="Check the lake's tables, and mend a damaged one.")
app.command("mainspring.cli.sql:app", name="sql", help="Ask a question of all events, in SQL.")
app.command("mainspring.cli.parity:app", name="parity", help="Compare served features with their replay.")
app.command("mainspring.cli.explain:app", name="explain", help="Walk from a prediction to all that it came from.")
app.command(
    "mainspring.cli.quarantine:app", name="quarantine", help="List, show, mend, replay or discard refused records."
)
app.command("mainspring.cli.load:app", name="load", help="Simulate traffic: latencies by rate, and the capacity.")
app.command("mainspring.cli.keys:app", name="keys", help="Make, list and revoke keys of the doors.")
app.command("mainspring.cli.demo:app", name="demo", help="Run the whole loop on a year of real flights.")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command line; returns the exit code (documented in ``docs/reference/cli.md``)."""
    as_json = "--json" in argv
    try:
        command, bound, _ = app.parse_args(_command_first(argv), exit_on_error=False, print_error=False)
        result = command(*bound.args, **bound.kwargs)
    except CycloptsError as error:
        usage = UsageError("MS-C050", str(error), hint=f"{_command_of(argv)} --help")
        terminal.show_error(usage, as_json=as_json)
        return usage.exit_code
    except MainspringError as error:
        terminal.show_error(error, as_json=as_json)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `mainspring status | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer goes nowhere
        return 0
    return result if isinstance(result, int) else 0


def _command_first(argv: list[str]) -> list[str]:
    """``-C DIR`` may stand before the command, as with git and make."""
    moved: list[str] = []
    rest = list(argv)
    while rest and (rest[0] in _GLOBAL or rest[0].startswith("--project=")):
        taken = 1 if "=" in rest[0] else 2
        moved, rest = moved + rest[:taken], rest[taken:]
    end = rest.index("--") if "--" in rest else len(rest)
    return rest[:end] + moved + rest[end:]


def _command_of(argv: list[str]) -> str:
    """The command that was meant, for a hint."""
    words = [word for word in _command_first(argv)[:1] if not word.startswith("-") and word in app]
    return " ".join(["mainspring", *words])
