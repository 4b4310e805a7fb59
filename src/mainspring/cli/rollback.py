"""``mainspring rollback``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.decide import decide
from mainspring.cli.options import DEFAULT, Options

app = App(
    name="rollback",
    help_epilogue="""A running or paused rollout ends and its challenger is dropped, together with its versions of
feature views. When none is under way, or when --version names the champion, the last good version
serves again. Of a stack (ms.ensemble with how="stack") the weights are taken back: it answers the
mean, until weights that are fitted later are better.

Examples:
  mainspring rollback late_flight
  mainspring rollback late_flight --version 4f2a9c01d3b7 --reason 'complaints'
  mainspring rollback both            the weights of a stack""",
)


@app.default
def rollback(model: str, /, *, version: str | None = None, reason: str = "", options: Options = DEFAULT) -> None:
    """Drop the challenger; without one, go back to the last good version.

    Args:
        model: Name of the model, or of a stack.
        version: The version to be rid of: the challenger or the champion, or a stack's weights.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    decide(options, "rollback", model, version=version, reason=reason)
