"""The standing audit: the worker compares what was served with its replay, by itself, and says so when they differ.

At each boundary of a model a sample of the predictions since the last audit is replayed. What is found is a ``parity``
decision; where the next audit goes on, and how many clean ones there have been, is read from those decisions, so a
worker that dies loses nothing. A difference opens an incident, and several clean audits in a row close it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from mainspring.catalog import Catalog, Decision, Incident
from mainspring.definitions import ModelDef
from mainspring.events.system import OTHERWISE, PREDICTION
from mainspring.loop.incidents import Change
from mainspring.loop.ledger import Ledger
from mainspring.loop.served import served_model

if TYPE_CHECKING:
    from mainspring.features.needed import Columns
    from mainspring.features.parity import ParityReport

KIND = "parity"
MOST_PREDICTIONS = 500
"""Replayed in one audit: its cost does not grow with the traffic."""
OPEN_FACTOR = 4
"""While an incident is open, so many times more are looked at."""
CLEAN_AUDITS = 3
"""In a row close an incident: a sample may miss the key whose state is wrong."""


def check_releases(model: ModelDef, catalog: Catalog, predictions: pl.DataFrame, history: Columns) -> ParityReport:
    """Parity of predictions of one model, each by the definitions of the release that answered it.

    Args:
        model: As the definitions file says now.
        catalog: Caught up; a release that it does not know is left out, and counted as such.
        predictions: Rows of the ``_prediction`` source, of this model; those that no model answered are passed over.
        history: Of the request's source and of the views' sources.
    """
    from mainspring.features.parity import check, joined, unlinked

    reports = []
    of_models = predictions.filter(pl.col("version") != OTHERWISE)
    for (version,), rows in of_models.group_by("version", maintain_order=True):
        served = served_model(model, str(version), catalog)
        reports.append(check(served, rows, history) if served is not None else unlinked(model.name, rows.height))
    return joined(model.name, reports)


def audit(model: ModelDef, catalog: Catalog, ledger: Ledger, history: Columns, at_us: int) -> ParityReport | None:
    """Audit one model at one boundary; the same boundary a second time writes nothing.

    Args:
        model: Which model.
        catalog: Caught up.
        ledger: Where the findings are said.
        history: Caught up.
        at_us: The boundary; predictions before it and after the last audit are looked at.

    Returns:
        What was found; None when there was nothing to look at.
    """
    if all(f.view is None and f.expression is None for f in model.features):
        return None
    said = catalog.decisions(KIND, model=model.name)
    if any(d.decision_id == _id(model, at_us) for d in said):
        said = tuple(d for d in said if d.at_us < at_us)
    after = int(said[-1].numbers["until_offset"]) if said else 0
    fresh = _fresh(model, history, after, at_us)
    if fresh.is_empty():
        return None
    open_now = open_incident(catalog, model.name)
    report, share = _checked(model, catalog, fresh, history, at_us, open_now)
    differs = {f.name: f.different for f in report.features if f.different}
    numbers = {
        "logged": fresh.height,
        "share": share,
        "predictions": report.predictions,
        "unlinked": report.unlinked,
        "values": report.values,
        "exact": report.exact,
        "exact_share": report.exact_share,
        "within_tolerance": report.within_tolerance,
        "different": report.different,
        "not_compared": report.not_compared,
        "uncomputable": report.uncomputable,
        "features": differs,
        "behind": report.lag.behind,
        "lagging": report.lag.lagging,
        "lag_records": report.lag.most_records,
        "lag_s": report.lag.most_s,
        "until_offset": int(fresh["_offset"].max()),  # type: ignore[arg-type]
    }
    reason = f"{report.exact:,} of {report.values:,} served values are those of a replay"
    if report.within_tolerance:
        reason += f", {report.within_tolerance:,} within tolerance"
    if report.different:
        reason += f", {report.different:,} differ"
    if report.uncomputable:
        reason += f"; {report.uncomputable:,} could be computed neither then nor now"
    # The incident first: a worker that dies between the two says the finding, with the same id, when it comes back.
    if report.different and open_now is None:
        _open(model, report, ledger, at_us)
    ledger.decide(KIND, _id(model, at_us), at_us, model=model.name, reason=reason, numbers=numbers)
    if open_now is not None and not report.different:
        close_if_clean(open_now, catalog, ledger, at_us)
    return report


def open_incident(catalog: Catalog, model: str) -> Incident | None:
    """The parity incident of a model that is open, or None."""
    return next((i for i in catalog.incidents(is_open=True) if i.kind == KIND and i.model == model), None)


def _fresh(model: ModelDef, history: Columns, after: int, at_us: int) -> pl.DataFrame:
    until = pl.lit(at_us).cast(pl.Datetime("us", "UTC"))
    from mainspring.features.parity import READ

    frame = history.frame(PREDICTION.name, READ)
    return frame.filter((pl.col("model") == model.name) & (pl.col("_offset") > after) & (pl.col("_time") <= until))


def _checked(
    model: ModelDef, catalog: Catalog, fresh: pl.DataFrame, history: Columns, at_us: int, open_now: Incident | None
) -> tuple[ParityReport, float]:
    """A sample of other keys each time; while an incident is open a larger one."""
    from mainspring.features.parity import sampled

    most = MOST_PREDICTIONS * (OPEN_FACTOR if open_now is not None else 1)
    share = min(1.0, most / fresh.height)
    chosen = sampled(fresh, share, at_us.to_bytes(8, "big", signed=True))
    return check_releases(model, catalog, chosen.head(2 * most), history), share


def _open(model: ModelDef, report: ParityReport, ledger: Ledger, at_us: int) -> None:
    worst = max(report.features, key=lambda f: f.different)
    share = report.different / report.values
    view = next((v.name for f in model.features if f.name == worst.name for v in model.views_of(f)), None)
    mend = f"mainspring features backfill {view}" if view is not None else f"mainspring parity {model.name}"
    reason = (
        f"{share:.2%} of the values that {model.name} was served differ from their replay, most of {worst.name}; "
        f"look with: mainspring parity {model.name} --sample 100%; mend with: {mend}"
    )
    incident_id = f"{KIND}-{model.name}-{at_us}"
    numbers: dict[str, Any] = {
        "kind": KIND,
        "column": worst.name,
        "share": share,
        "features": {f.name: f.different for f in report.features if f.different},
        "examples": [
            {"prediction": e.prediction_id, "feature": e.feature, "served": e.served, "replayed": e.replayed}
            for e in report.examples[:5]
        ],
        "mend": mend,
    }
    ledger.tell(Change("incident_open", incident_id, model.name, reason, numbers), at_us, model=model.name)


def close_if_clean(incident: Incident, catalog: Catalog, ledger: Ledger, at_us: int) -> None:
    """Close a parity incident after several clean audits in a row."""
    said = [d for d in catalog.decisions(KIND, model=incident.model) if d.at_us > incident.opened_us]
    compared = [d for d in said if d.numbers["values"]]
    if len(compared) < CLEAN_AUDITS or any(d.numbers["different"] for d in compared[-CLEAN_AUDITS:]):
        return
    reason = f"{CLEAN_AUDITS} audits in a row found every value that they compared equal to its replay"
    change = Change("incident_close", incident.incident_id, incident.model or "", reason, {})
    ledger.tell(change, at_us, model=incident.model)


def _id(model: ModelDef, at_us: int) -> str:
    return f"{KIND}-{model.name}-{at_us}"


def last_audit(catalog: Catalog, model: str) -> Decision | None:
    """What the newest audit of a model found, or None before the first."""
    said = catalog.decisions(KIND, model=model, limit=1)
    return said[-1] if said else None
