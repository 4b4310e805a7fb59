"""Put a definitions file in force: plan, check, decide."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mainspring.catalog import Catalog, Plan, plan
from mainspring.catalog.database import MEND
from mainspring.catalog.plan import Action, Line
from mainspring.core import Config, content_hash, format_span
from mainspring.core.errors import FormatError
from mainspring.core.run import door_pid
from mainspring.core.times import to_iso
from mainspring.definitions import Project, load_project, read_definitions
from mainspring.definitions.applied import keep
from mainspring.events.system import DECISION
from mainspring.loop.costs import view_costs
from mainspring.loop.desk import open_desk
from mainspring.loop.impact import on_corrections, on_readers
from mainspring.loop.ledger import reload_gateways

if TYPE_CHECKING:
    from mainspring.events.record import Record


def plan_project(config: Config, project: Project) -> Plan:
    """What an apply of ``project`` would change, and what it costs.

    Raises:
        FormatError: The catalog is gone, and log or lake hold an apply (MS-C044).
    """
    with Catalog.open(config.catalog_url) as catalog:
        _refuse_forgotten(config, catalog)
        earlier = {
            name: [one.description for one in catalog.definition_versions("sources", name)] for name in project.sources
        }
        costs = view_costs(config, project, catalog)
        found = plan(catalog.definitions(), project.describe(), costs, earlier, _still_sent(config))
        readers = (*on_readers(project, catalog), *on_corrections(project, catalog))
    return Plan(
        (*found.lines, *readers, *_on_expressions(project), *_on_keep(config, project), *_on_otherwise(config, project))
    )


def _refuse_forgotten(config: Config, catalog: Catalog) -> None:
    """Refuse a catalog that knows of no apply where there was one: any change would look like a new project's."""
    if "apply" not in catalog.decision_counts() and _was_applied(config):
        raise FormatError(
            "MS-C044",
            "the catalog knows nothing of what was decided",
            where=config.catalog_url.removeprefix("sqlite:///"),
            why="its file was removed, and log or lake hold decisions",
            hint=MEND,
        )


def _was_applied(config: Config) -> bool:
    """Whether log or lake hold an apply; files may be loaded, and keys made, before the first one."""
    from mainspring.events.lake import Lake
    from mainspring.events.log import Log

    lake = Lake(config.lake_path)
    decided = lake.frame(DECISION.name, ["kind"]) if DECISION.name in lake.sources() else None
    if decided is not None and "apply" in decided["kind"]:
        return True
    if not (config.log_path / "data.mdb").exists():
        return False
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        if DECISION.name not in log.counts():
            return False
        after = 0
        while records := log.read(after):
            if any(one.source == DECISION.name and _kind(one) == "apply" for one in records):
                return True
            after = records[-1].offset
    return False


def _kind(record: Record) -> Any:
    return record.values[record.columns.index("kind")]


def _on_otherwise(config: Config, project: Project) -> Iterator[Line]:
    """A warning for each model that has not decided what is answered when it cannot; in production it is refused."""
    action: Action = "refuse" if config.project.environment == "production" else "warn"
    for model in project.models.values():
        if model.otherwise is None:
            text = "does not say what is answered when it fails or is late: otherwise=ms.otherwise(value=…)"
            yield Line(action, "model", model.name, text)


def _on_keep(config: Config, project: Project) -> Iterator[Line]:
    """What a source that does not keep its events for ever will lose at the next upkeep."""
    from mainspring.events.lake import Lake

    lake = Lake(config.lake_path)
    for source in project.sources.values():
        if source.keep_us is not None:
            total, near = lake.count(source.name, source.keep_us)
            span = format_span(source.keep_us)
            text = f"events older than {span} leave lake and log, but what a serving release was trained on"
            text += f"; about {total - near:,} of {total:,} are" if total > near else ""
            yield Line("warn" if total > near else "note", "source", source.name, text)


def _still_sent(config: Config) -> dict[str, str]:
    """How often each deprecated column still comes, in words."""
    from mainspring.events.log import Log

    if not (config.log_path / "data.mdb").exists():
        return {}
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return {
            column: f"; it came {sent.times:,} times, last at {to_iso(sent.last_us)}"
            for column, sent in log.sent().items()
        }


def _on_expressions(project: Project) -> Iterator[Line]:
    """A warning for each feature that requests wait for polars for, or that wraps around in a short number type."""
    from mainspring.features.request import POLARS_COST, program_of

    for model in project.models.values():
        program = program_of(model)
        for one in program.interpreted:
            why = f"{one.name} is outside the compiled subset ({one.why})"
            yield Line("warn", "model", model.name, f"{why}: polars evaluates it, {POLARS_COST} of requests")
        for name, dtype in program.wrapping:
            text = f"{name} is computed in {dtype} and wraps around beyond it: write .cast(int) before"
            yield Line("warn", "model", model.name, text)


def apply_project(config: Config, *, now_us: int, actor: str, reason: str = "") -> Plan:
    """Put the project's definitions file in force.

    The decision is an event like any other. The intake and the gateway read the definitions again; the worker fills new
    feature views from history, when it hears of it or when it starts. The tracking store's tables are made, once. An
    apply that changes nothing writes nothing.

    Args:
        config: The project's settings.
        now_us: The moment of the decision.
        actor: Who decides.
        reason: Why.

    Returns:
        What was changed.

    Raises:
        DefinitionError: The definitions file says something that cannot be.
        RefusedError: It would break a contract (MS-C030), or a model is not fit for production (MS-C031).
    """
    text = read_definitions(config.definitions)
    project = load_project(config.definitions, text)
    found = plan_project(config, project)
    found.check()
    _prepare_tracking(config)
    if not found.changes:
        keep(config, text)
        return found
    description = project.describe()
    with open_desk(config, project) as desk:
        desk.ledger.decide(
            "apply",
            f"apply-{content_hash(description)}-{now_us}",
            now_us,
            actor=actor,
            reason=reason or f"{len(found.changes)} changes",
            numbers=description,
        )
        keep(config, text)
        _tell_the_doors(config)
    return found


def _tell_the_doors(config: Config) -> None:
    """Have the intake and the connectors read the definitions again, and every gateway its routes."""
    for door in ("intake", "connect"):
        pid = door_pid(config.run, door)
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
    reload_gateways(config)


def _prepare_tracking(config: Config) -> None:
    """Make the tracking store's tables: some seconds the first time, and not in the middle of a training."""
    from mainspring.training.tracking import Tracking

    Tracking(config.tracking_url, config.home / "mlruns").create_schema()
