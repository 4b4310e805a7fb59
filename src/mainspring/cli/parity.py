"""``mainspring parity``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import ConfigError, MainspringError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mainspring.definitions import ModelDef
    from mainspring.features.parity import ParityReport

app = App(
    name="parity",
    help_epilogue="""Takes logged predictions, sampled by a hash of their key, replays their features at their own
moments, by the definitions of the release that answered, and compares. Expected is 100 % exact as
the model saw them; the exit code is 1 when a value differs. Lag skew, what the fold had not yet
seen, is another thing and is reported apart. The worker does the same by itself (`mainspring
status` shows its incidents).

Examples:
  mainspring parity late_flight
  mainspring parity late_flight --sample 100%
  mainspring parity late_flight --sample 0.5% --json
  mainspring parity quick_then_careful      a composite: what each member saw within it""",
)


@app.default
def parity(model: str, /, *, sample: str = "1%", options: Options = DEFAULT) -> int:
    """Compare the features that predictions were served with their replay.

    Args:
        model: Name of the model, or of a composite: then what its members were asked within it.
        sample: Share of the predictions' keys.
        options: Where the project is, and how to answer.
    """
    import polars as pl

    from mainspring.definitions import CompositeDef
    from mainspring.events.system import PREDICTION
    from mainspring.features.parity import sampled
    from mainspring.loop.audit import check_releases

    workspace = Workspace(options.project)
    definition = workspace.served(model)
    share = share_of(sample)
    with workspace.history() as history, workspace.catalog() as catalog:
        every = history.frame(PREDICTION.name)
        own = every.filter(pl.col("model") == model)
        if isinstance(definition, CompositeDef):
            parts = every.filter(pl.col("part_of").is_in(own["prediction_id"].implode()))
            logged = {one: parts.filter(pl.col("model") == one.name) for one in definition.members}
        else:
            logged = {definition: own}
        found = {
            one: (check_releases(one, catalog, sampled(rows, share), history), rows.height)
            for one, rows in logged.items()
        }
    reports = {one.name: report.to_dict() | {"logged": n} for one, (report, n) in found.items()}
    shown = [part for one, (report, n) in found.items() for part in _shown(one, report, n)]
    if isinstance(definition, CompositeDef):
        data = {"model": model, "sample": share, "logged": own.height, "members": reports}
        shown.insert(0, terminal.text(f"{model} is a composite of {', '.join(reports)}: its features are theirs"))
    else:
        data = reports[model] | {"sample": share}
    terminal.answer(options, data, *shown)
    return MainspringError.exit_code if any(report.different for report, _ in found.values()) else 0


def _shown(model: ModelDef, report: ParityReport, logged: int) -> list[RenderableType]:
    """A report as tables and lines."""
    if all(f.view is None and f.expression is None for f in model.features):
        return [terminal.text(f"{model.name} has no feature of a view to compare")]
    columns = ("feature", "values", "exact", "within tolerance", "unequal", "missing", "extra", "not compared")
    rows = [
        (
            f.name,
            *(f"{n:,}" for n in (f.values, f.exact, f.within_tolerance, f.unequal, f.missing, f.extra, f.not_compared)),
        )
        for f in report.features
    ]
    parts: list[RenderableType] = [terminal.table(columns, rows, title=model.name, right=columns[1:])]
    if report.examples:
        differ = [(e.prediction_id, e.feature, e.served, e.replayed) for e in report.examples]
        parts.append(terminal.table(("prediction", "feature", "served", "replayed"), differ, title="different"))
    if report.exact_share is None:
        compared = f"nothing to compare: {report.predictions:,} of {logged:,} predictions are in the sample"
    else:
        compared = (
            f"{report.predictions:,} of {logged:,} predictions replayed: {report.exact:,} of "
            f"{report.values:,} values exact ({report.exact_share:.4%}), {report.within_tolerance:,} within tolerance, "
            f"{report.different:,} different"
        )
    lag = report.lag
    lagging = (
        f"lag skew: {lag.behind:,} predictions were served before something known had been folded, "
        f"{lag.lagging:,} would have had another feature; at most {lag.most_records:,} records, {lag.most_s:.3f} s"
    )
    lines = [compared, lagging]
    if report.unlinked:
        lines.append(f"{report.unlinked:,} predictions have no stored request, or are of another definition: left out")
    if report.uncomputable:
        lines.append(f"{report.uncomputable:,} values could be computed neither when asked nor on replay: left out")
    return [*parts, *(terminal.text(line) for line in lines)]


def share_of(text: str) -> float:
    """A share as people write it.

    Raises:
        ConfigError: It is none, or not above 0 and at most 100 % (MS-C067).

    >>> share_of("1%"), share_of("0.25")
    (0.01, 0.25)
    """
    try:
        share = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        share = 0.0
    if not 0.0 < share <= 1.0:
        raise ConfigError("MS-C067", f"{text!r} is no share", hint="--sample 1%, up to 100%")
    return share
