"""The audit of a composite: each answer is made again from what its members said, by the weights that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from mainspring.catalog import Catalog
from mainspring.definitions import CompositeDef
from mainspring.definitions.composition import How, combined, of_served
from mainspring.definitions.weights import Weights, weights_from
from mainspring.loop.audit import KIND, close_if_clean, open_incident
from mainspring.loop.composition import given_weights
from mainspring.loop.heard import is_answer, said_by
from mainspring.loop.incidents import Change
from mainspring.loop.ledger import Ledger

MOST_ANSWERS = 10_000
"""Made again in one audit: its cost does not grow with the traffic."""


def recompose(composite: CompositeDef, catalog: Catalog, ledger: Ledger, answers: pl.DataFrame, at_us: int) -> None:
    """Compare answers with what the logged answers of the members make, and say so as of a model's features.

    The members' own features are replayed by the audits of the members.

    Args:
        composite: Which.
        catalog: Caught up.
        ledger: Where the findings are written.
        answers: Its rows of ``_prediction`` since the last boundary.
        at_us: The boundary.
    """
    rows = answers.filter(is_answer())
    if rows.is_empty():
        return
    rows = rows.gather_every(-(-rows.height // MOST_ANSWERS))
    makes = {name: _made_by(composite, catalog, name) for name in rows["version"].unique()}
    again = [_again(makes[version], members) for version, members in rows.select("version", "members").iter_rows()]
    pairs = list(zip(rows["output"].to_list(), again, strict=True))
    compared = [(served, made) for served, made in pairs if made is not None]
    different = sum(served != made for served, made in compared)
    numbers = {
        "logged": answers.height,
        "share": rows.height / answers.height,
        "predictions": rows.height,
        "unlinked": 0,
        "values": len(compared),
        "exact": len(compared) - different,
        "exact_share": (len(compared) - different) / len(compared) if compared else None,
        "within_tolerance": 0,
        "different": different,
        "not_compared": len(pairs) - len(compared),
        "features": {"output": different} if different else {},
        "behind": 0,
        "lagging": 0,
        "lag_records": 0,
        "lag_s": 0.0,
        "until_offset": int(answers["_offset"].max()),  # type: ignore[arg-type]
    }
    open_now = open_incident(catalog, composite.name)
    if different and open_now is None:
        _open(composite, numbers, ledger, at_us)
    reason = f"{len(compared) - different:,} of {len(compared):,} answers are what those of its members make"
    ledger.decide(KIND, f"{KIND}-{composite.name}-{at_us}", at_us, model=composite.name, reason=reason, numbers=numbers)
    if open_now is not None and not different:
        close_if_clean(open_now, catalog, ledger, at_us)


def _made_by(composite: CompositeDef, catalog: Catalog, version: str) -> tuple[How, Weights | None] | None:
    """How a version of a composite answers, and by which weights; None where that is not known any more."""
    definition, named = of_served(version)
    how: How = composite.how
    if definition != composite.version:
        found = catalog.definition("composites", composite.name, definition)
        if found is None:
            return None
        how = found.description["how"]
    if named is None:
        return how, None
    given = given_weights(catalog, composite.name, named)
    return None if given is None else (how, weights_from(given.numbers["weights"]))


def _again(made_by: tuple[How, Weights | None] | None, members: str) -> float | None:
    """What a composite that answers so answers where its members said so; None where it is not known how."""
    if made_by is None:
        return None
    how, weights = made_by
    return combined(how, [output for _, output in said_by(members).values() if output is not None], weights)


def _open(composite: CompositeDef, numbers: Mapping[str, Any], ledger: Ledger, at_us: int) -> None:
    incident_id = f"{KIND}-{composite.name}-{at_us}"
    reason = (
        f"{numbers['different']:,} of {numbers['values']:,} answers of {composite.name} are not what its "
        f"members' logged answers make; look with: mainspring explain PREDICTION"
    )
    opened = {"kind": KIND, "column": "output", "share": numbers["different"] / numbers["values"]}
    ledger.tell(Change("incident_open", incident_id, composite.name, reason, opened), at_us, model=composite.name)
