"""``mainspring promote``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.decide import decide
from mainspring.cli.options import DEFAULT, Options

app = App(
    name="promote",
    help_epilogue="""The version that served becomes the last good one: `mainspring rollback MODEL` goes back to it.

Examples:
  mainspring promote late_flight
  mainspring promote late_flight --reason 'enough evidence for us'""",
)


@app.default
def promote(model: str, /, *, reason: str = "", options: Options = DEFAULT) -> None:
    """Make the challenger the champion by hand, whatever its evidence says.

    Args:
        model: Name of the model.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    decide(options, "promote", model, version=None, reason=reason)
