"""``mainspring status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cyclopts import App

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import CHANGED, Workspace
from mainspring.core.run import read_doors, read_public
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType

    from mainspring.catalog import Catalog, Stack
    from mainspring.core.config import Config

app = App(
    name="status",
    help_epilogue="""Reads the catalog and the run folder, and asks the gateways that run; nothing has to be up.

Examples:
  mainspring status
  mainspring status --last 30       more of the latest decisions
  mainspring status --json | jq .models""",
)

SECOND_US = 1_000_000


@app.default
def status(*, last: int = 8, options: Options = DEFAULT) -> None:
    """Show what exists, what serves and what is wrong.

    Args:
        last: How many of the latest decisions to show.
        options: Where the project is, and how to answer.
    """
    from mainspring.definitions.applied import has_changed

    workspace = Workspace(options.project)
    config = workspace.config
    with workspace.catalog() as catalog:
        found = {
            "project": config.project.name,
            "definitions": {"file": str(config.definitions), "changed": has_changed(config)},
            "processes": {name: read_public(config.run, name) for name in ("intake", "gateway")}
            | {"worker": _worker(config)},
            "gateways": _gateways(config),
            "deaths": _deaths(config),
            "events": _events(config),
            "fold": _fold(config),
            "models": _models(catalog),
            "composites": _composites(catalog),
            "incidents": [
                {
                    "id": one.incident_id,
                    "kind": one.kind,
                    "source": one.source,
                    "model": one.model,
                    "column": one.column,
                    "since": to_iso(one.opened_us // SECOND_US * SECOND_US),
                    "reason": one.reason,
                }
                for one in catalog.incidents(is_open=True)
            ],
            "decisions": [
                {
                    "at": to_iso(one.at_us // SECOND_US * SECOND_US),
                    "kind": one.kind,
                    "model": one.model,
                    "subject": one.subject,
                    "actor": one.actor,
                    "reason": one.reason,
                    "note": one.note,
                }
                for one in catalog.decisions(limit=last)
            ],
        }
    terminal.answer(options, found, *_shown(found))


def _worker(config: Config) -> int | None:
    """Pid of the worker that holds the lease, or None."""
    from mainspring.core.run import Lease

    path = config.run / "worker.lock"
    lease = Lease(path)
    if not path.exists():
        return None
    if lease.acquire():
        lease.release()
        return None
    return lease.holder()


def _gateways(config: Config) -> list[dict[str, Any]]:
    """The gateways that run, and how each of their processes is."""
    doors = read_doors(config.run, "gateway")
    if not doors:
        return []
    from dataclasses import asdict

    from mainspring.serving.roll_call import roll_call

    said = roll_call(config.run, doors)
    return [
        {"url": door.where, "pid": door.pid, "processes": [asdict(one) for one in some]}
        for door, some in zip(doors, said, strict=True)
    ]


def _deaths(config: Config) -> list[dict[str, Any]]:
    """The processes that have ended under a supervisor and have not been well since."""
    from mainspring.loop.deaths import read_deaths

    return [
        {
            "process": one.process,
            "times": one.times,
            "code": one.code,
            "at": to_iso(one.at_us // SECOND_US * SECOND_US),
            "again_in_s": one.again_in_s,
            "log": one.log,
            "said": one.said,
        }
        for one in read_deaths(config.run)
    ]


def _events(config: Config) -> dict[str, dict[str, int]]:
    if not (config.log_path / "data.mdb").exists():
        return {}
    from mainspring.events.log import Log

    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return {
            source: {
                "accepted": n.accepted,
                "duplicate": n.duplicate,
                "quarantined": n.quarantined,
                "mended": n.mended,
            }
            for source, n in sorted(log.counts().items())
        }


def _fold(config: Config) -> dict[str, Any] | None:
    """Where the fold stands, as the worker tells it; None when none runs."""
    from mainspring.loop.telling import ask_worker

    return ask_worker(config, "/health")


def _models(catalog: Catalog) -> dict[str, dict[str, Any]]:
    routes = {route.model: route for route in catalog.routes()}
    names = sorted({*routes, *catalog.definitions()["models"], *(v.model for v in catalog.versions())})
    out: dict[str, dict[str, Any]] = {}
    for name in names:
        route, rollout = routes.get(name), catalog.rollout(name)
        versions = catalog.versions(name)
        out[name] = {
            "champion": route.champion if route else None,
            "last_good": route.last_good if route else None,
            "challenger": rollout.challenger if rollout else None,
            "stage": route.stage if route else None,
            "weight": route.weight if route else 0.0,
            "versions": len(versions),
            "newest": versions[-1].version if versions else None,
            "newest_state": versions[-1].state if versions else None,
            "metrics": next((v.metrics for v in versions if route and v.version == route.champion), {}),
            "parity": _audit(catalog, name),
        }
    return out


def _composites(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """Who answers for each composite, by which weights, and what its newest boundary found."""
    champions = {route.model: route.champion for route in catalog.routes()}
    out: dict[str, dict[str, Any]] = {}
    for name, one in catalog.definitions()["composites"].items():
        stack = catalog.stack(name, one["version"])
        judged = catalog.decisions("performance", model=name, limit=1)
        out[name] = {
            "how": one["how"],
            "members": {member: champions.get(member) for member in one["members"]},
            "weights": None if stack is None else _weights(stack, champions),
            "judged": {"at": to_iso(judged[-1].at_us)} | judged[-1].numbers if judged else None,
            "parity": _audit(catalog, name),
        }
    return out


def _weights(stack: Stack, champions: Mapping[str, str]) -> dict[str, Any]:
    """Weights that serve, on what they rest, and for which members they are of an earlier version."""
    told = ("metric", "better_by", "better_by_lower", "better_by_upper", "against")
    weights = stack.weights
    return {
        "version": weights.version,
        "since": to_iso(stack.at_us),
        "intercept": weights.intercept,
        "of": dict(zip(weights.members, weights.weights, strict=True)),
        "fitted_for": stack.versions,
        "of_earlier_versions": [name for name, one in stack.versions.items() if champions.get(name) != one],
    } | {name: stack.numbers[name] for name in told if name in stack.numbers}


def _audit(catalog: Catalog, model: str) -> dict[str, Any] | None:
    """What the newest audit found (``loop.audit``, which is too much to load for a line); None before the first."""
    said = catalog.decisions("parity", model=model, limit=1)
    if not said:
        return None
    told = ("predictions", "values", "exact_share", "different", "behind", "lagging", "lag_records", "lag_s")
    return {"at": to_iso(said[-1].at_us)} | {name: said[-1].numbers[name] for name in told}


def _shown(found: dict[str, Any]) -> list[RenderableType]:
    out: list[RenderableType] = [terminal.text(found["project"], "bold")]
    if found["definitions"]["changed"]:
        out.append(terminal.text(CHANGED, "yellow"))
    processes = [(name, "-" if where is None else where) for name, where in found["processes"].items()]
    others = [("gateway", one["url"]) for one in found["gateways"][1:]]
    processes[2:2] = others
    out.append(terminal.table(("process", "url or pid"), processes))
    out += [terminal.text(line, "bold red") for one in found["gateways"] for line in _gateway_lines(one)]
    for one in found["deaths"]:
        times = f"{one['times']} times, the last" if one["times"] > 1 else "once,"
        what = f"{one['process']} has ended {times} at {one['at']} with {one['code']}; "
        what += f"it is started again after {one['again_in_s']:g} s. Its log, {one['log']}, ends:"
        out.append(terminal.text(what, "bold red"))
        out.append(terminal.text("\n".join(f"  {line}" for line in one["said"].splitlines()), "red"))
    if found["events"]:
        rows = [(source, *(f"{n:,}" for n in counts.values())) for source, counts in found["events"].items()]
        columns = ("source", "accepted", "duplicate", "quarantined", "mended")
        out.append(terminal.table(columns, rows, right=columns[1:]))
    if found["fold"] is not None:
        out.append(terminal.text(_fold_line(found["fold"])))
    served = [
        (
            name,
            one["champion"] or "nothing",
            f"{one['challenger']} {one['stage']} {one['weight']:.0%}" if one["challenger"] else "-",
            one["versions"],
            _parity_cell(one["parity"]),
            _skew_cell(one["parity"]),
        )
        for name, one in found["models"].items()
    ]
    headings = ("model", "serves", "on its way", "versions", "parity", "lag skew")
    out.append(terminal.table(headings, served, right=headings[3:]))
    if found["composites"]:
        out.append(_composites_table(found["composites"]))
    if found["incidents"]:
        open_now = [
            (i["since"], i["kind"], i["source"] or i["model"] or i["column"], i["reason"]) for i in found["incidents"]
        ]
        out.append(terminal.table(("open since", "incident", "of", "what"), open_now))
    rows = [
        (one["at"], one["kind"], one["model"] or "", one["actor"], one["note"] or one["reason"])
        for one in found["decisions"]
    ]
    if rows:
        out.append(terminal.table(("at", "decision", "model", "by", "why"), rows))
    return out


def _gateway_lines(gateway: dict[str, Any]) -> list[str]:
    """What is wrong with the processes of a gateway: each thing once, with the workers that have it."""
    wrong: dict[str, list[str]] = {}
    for one in gateway["processes"]:
        lines = [
            f"{' '.join(filter(None, (problem['model'], problem['version'])))}: {problem['error']}"
            for problem in one["problems"]
        ]
        for line in filter(None, (*lines, one["trouble"], one["silent"])):
            wrong.setdefault(line, []).append("" if one["worker"] is None else str(one["worker"]))
    of = {line: f", worker{'s' * (len(some) > 1)} {', '.join(some)}" * any(some) for line, some in wrong.items()}
    return [f"gateway {gateway['url']}{of[line]}: {line}" for line in wrong]


def _composites_table(found: dict[str, Any]) -> RenderableType:
    rows = [
        (
            name,
            _how_cell(one),
            ", ".join(f"{member} {version or 'absent'}" for member, version in one["members"].items()),
            f"{judged['answers']:,}" if judged else "-",
            f"{judged['spread']:.4g}" if judged and judged["spread"] is not None else "-",
            _loss_cell(judged),
            _parity_cell(one["parity"]),
        )
        for name, one in found.items()
        for judged in (one["judged"],)
    ]
    headings = ("composite", "answers by", "members", "answers", "spread", "loss, of members", "parity")
    return terminal.table(headings, rows, right=headings[3:])


def _how_cell(one: dict[str, Any]) -> str:
    if one["how"] != "stack":
        return str(one["how"])
    weights = one["weights"]
    if weights is None:
        return "stack, the mean until weights are better"
    parts = " + ".join(f"{weight:.2f} {name}" for name, weight in weights["of"].items())
    stale = weights["of_earlier_versions"]
    return f"stack {weights['version']}: {parts}" + (f"; fitted before {', '.join(stale)} changed" if stale else "")


def _loss_cell(judged: dict[str, Any] | None) -> str:
    metric = next((name for name in ("log_loss", "absolute_error") if judged and name in judged), None)
    if judged is None or metric is None:
        return "-"
    return f"{judged[metric]:.4f}, {', '.join(f'{one[metric]:.4f}' for one in judged['members'].values())}"


def _fold_line(fold: dict[str, Any]) -> str:
    behind = f"{fold['lag_records']:,} records behind ({fold['lag_s']:.1f} s)" if fold["lag_records"] else "up to date"
    waiting = f"; not serving yet: {', '.join(fold['not_serving'])}" if fold["not_serving"] else ""
    return f"fold at offset {fold['offset']:,}, {behind}, {len(fold['views'])} view versions{waiting}"


def _parity_cell(found: dict[str, Any] | None) -> str:
    if found is None or found["exact_share"] is None:
        return "-"
    return f"{found['exact_share']:.2%}" + (f", {found['different']:,} differ" if found["different"] else "")


def _skew_cell(found: dict[str, Any] | None) -> str:
    return "-" if found is None or not found["predictions"] else f"{found['behind'] / found['predictions']:.1%}"
