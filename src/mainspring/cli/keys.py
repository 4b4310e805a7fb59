"""``mainspring keys``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from mainspring.cli import terminal
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.people import actor
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.core.names import check_name
from mainspring.core.times import to_iso

if TYPE_CHECKING:
    from mainspring.core.keys import Key

app = App(
    name="keys",
    help_epilogue="""A door that others than this machine reach asks every request for a key; on loopback it does with
`keys = true` under [gateway] or [intake]. A key is shown once, when it is made: only its digest is kept.

Scopes: admin (everything), read (metrics, docs, quarantine), predict:MODEL, events:SOURCE; predict:* and
events:* are all of them.

Examples:
  mainspring keys create shop --scope predict:late_flight
  mainspring keys create feed --scope events:arrived --scope events:weather --per-second 500 --burst 1000
  mainspring keys list
  mainspring keys revoke shop
  curl -H 'Authorization: Bearer ms_…' -d '{...}' https://ml.example.com:7070/predict/MODEL""",
)
Scopes = Annotated[tuple[str, ...], Parameter(name="--scope", consume_multiple=False, negative="")]


@app.command
def create(
    name: str,
    /,
    *,
    scope: Scopes,
    per_second: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    burst: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    options: Options = DEFAULT,
) -> None:
    """Make a key and show it, once.

    Args:
        name: Whose it is: a program, a team; a-z, 0-9 and _.
        scope: What it is for; give it several times for several.
        per_second: Requests a second that it may make; any number if left out.
        burst: Requests that it may make at once, with --per-second; a second's worth if left out.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.keys import check_rate, check_scope, digest_of, new_key

    check_name(name, "name of a key")
    for one in scope:
        check_scope(one)
    check_rate(per_second, burst)
    workspace = Workspace(options.project, as_applied=True)
    _check_known(workspace, scope)
    key_id, text = new_key()
    numbers: dict[str, Any] = {"name": name, "digest": digest_of(text), "scopes": list(scope)}
    if per_second is not None:
        numbers |= {"per_s": per_second, "burst": burst or max(1, round(per_second))}
    _decide(workspace, "key_create", key_id, numbers)
    answer = {"name": name, "key_id": key_id, "key": text, "scopes": list(scope)}
    said = "it is shown this once; send it as `Authorization: Bearer KEY`"
    terminal.answer(options, answer, terminal.text(text), terminal.text(said))


@app.command
def list_(*, all: bool = False, options: Options = DEFAULT) -> None:
    """List the keys that are in force.

    Args:
        all: Those that were revoked, too.
        options: Where the project is, and how to answer.
    """
    workspace = Workspace(options.project)
    with workspace.catalog() as catalog:
        found = [key for key in catalog.listed_keys() if all or key.revoked_us is None]
    columns = ("id", "name", "scopes", "a second", "burst", "made", "revoked")
    rows = [tuple(str(value) if value is not None else "" for value in _row(key)) for key in found]
    data = [
        {
            "key_id": key.key_id,
            "name": key.name,
            "scopes": list(key.scopes),
            "per_second": key.per_s,
            "burst": key.burst if key.per_s is not None else None,
            "created_at": to_iso(key.created_us),
            "revoked_at": to_iso(key.revoked_us) if key.revoked_us is not None else None,
        }
        for key in found
    ]
    terminal.answer(options, data, terminal.table(columns, rows, right=("a second", "burst")))


@app.command
def revoke(name: str, /, *, reason: str = "", options: Options = DEFAULT) -> None:
    """Revoke a key: doors refuse it within a second.

    Args:
        name: Its name, or its id.
        reason: Why: kept with the decision.
        options: Where the project is, and how to answer.
    """
    workspace = Workspace(options.project, as_applied=True)
    with workspace.catalog() as catalog:
        found = [key for key in catalog.listed_keys() if key.revoked_us is None and name in (key.name, key.key_id)]
    if not found:
        raise NotFoundError("MS-C094", f"no key {name!r} is in force", hint="mainspring keys list --all")
    for key in found:
        _decide(workspace, "key_revoke", key.key_id, {"name": key.name}, reason)
    answer = {"revoked": [key.key_id for key in found]}
    terminal.answer(options, answer, terminal.text(f"{name} is revoked"))


def _check_known(workspace: Workspace, scopes: tuple[str, ...]) -> None:
    """Refuse a scope of a model or a source that is not defined: it would open nothing, and look as if it did."""
    for scope in scopes:
        kind, _, name = scope.partition(":")
        if not name or name == "*":
            continue
        if kind == "predict":
            workspace.served(name)
        else:
            workspace.source(name)


def _row(key: Key) -> tuple[object, ...]:
    burst = key.burst if key.per_s is not None else None
    ended = to_iso(key.revoked_us) if key.revoked_us is not None else None
    return key.key_id, key.name, " ".join(key.scopes), key.per_s, burst, to_iso(key.created_us), ended


def _decide(workspace: Workspace, kind: str, key_id: str, numbers: dict[str, Any], reason: str = "") -> None:
    """Write a decision about a key.

    Raises:
        RefusedError: It would change nothing; the error says why (MS-C095).
    """
    from mainspring.loop.desk import open_desk
    from mainspring.loop.ledger import decision_row

    now_us = workspace.clock.now_us()
    named = (kind, f"{kind}-{key_id}", now_us)
    with open_desk(workspace.config, workspace.project) as desk:
        row = decision_row(*named, None, key_id, actor(), reason or "by hand", numbers)
        objection = desk.catalog.objection(row)
        if objection:
            raise RefusedError("MS-C095", objection, hint="mainspring keys list")
        desk.ledger.decide(*named, subject=key_id, actor=actor(), reason=reason or "by hand", numbers=numbers)
