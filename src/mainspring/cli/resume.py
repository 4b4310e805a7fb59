"""``mainspring resume``."""

from __future__ import annotations

from cyclopts import App

from mainspring.cli.decide import decide
from mainspring.cli.options import DEFAULT, Options

app = App(
    name="resume",
    help_epilogue="""A rollout also pauses by itself: when its traffic is not split as it should be, or when its time is
up without a proof.

Examples:
  mainspring resume late_flight""",
)


@app.default
def resume(model: str, /, *, reason: str = "", options: Options = DEFAULT) -> None:
    """Let a paused rollout go on where it was.

    Args:
        model: Name of the model.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    decide(options, "resume", model, version=None, reason=reason)
