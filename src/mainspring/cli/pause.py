"""``mainspring pause``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.decide import decide
from mainspring.cli.options import DEFAULT, Options

app = App(
    name="pause",
    help_epilogue="""Time in a pause is no exposure. Go on with `mainspring resume`, or end it with `promote` or
`rollback`.

Examples:
  mainspring pause late_flight --reason 'marketing campaign'""",
)


@app.default
def pause(model: str, /, *, reason: str = "", options: Options = DEFAULT) -> None:
    """Hold the rollout of a model: the champion serves everybody.

    Args:
        model: Name of the model.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    decide(options, "pause", model, version=None, reason=reason)
