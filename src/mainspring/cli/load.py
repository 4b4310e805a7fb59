"""``mainspring load``."""

from __future__ import annotations

import ipaddress
import math
import secrets
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from cyclopts import App, Parameter

from mainspring.cli import terminal
from mainspring.cli.load_page import capacity_json, level_json, shown
from mainspring.cli.options import DEFAULT, Options
from mainspring.cli.workspace import Workspace
from mainspring.core.errors import ConfigError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from mainspring.definitions import CompositeDef, ModelDef, SourceDef
    from mainspring.load.measure import Level
    from mainspring.load.shape import Stage
    from mainspring.load.traffic import Server, Traffic

app = App(
    name="load",
    help_epilogue="""Requests come when they come (an open loop), and each is timed from when it was meant to be sent: a
server that stalls is asked no less, and what waits while it does is counted. Without --rate the capacity is
searched: the greatest rate that keeps the target. Rates are requests a second, arrivals a Poisson process.

A copy of the project is started for it and thrown away, so that no request becomes an event of yours. --url
sends to a server that runs already instead; there each request is answered, logged and learned from like any
other, so that it asks for --yes.

Examples:
  mainspring load late_flight                           what it takes at p99 under 20 ms, and n replicas of it
  mainspring load late_flight --target 50ms --need 10000
  mainspring load late_flight --rate 500 --rate 2000 --for 30s
  mainspring load late_flight --rate 200 --rate 5000 --shape ramp --for 1m
  mainspring load late_flight --rate 500 --rate 5000 --shape spike --protocol v2
  mainspring load late_flight --url https://staging.example.com --yes --rate 100
  mainspring load late_flight --url https://ml.internal:7070 --ca-file ca.pem --yes --rate 100
  mainspring load late_flight --protocol grpc --rate 500
  mainspring load late_flight --url grpc://127.0.0.1:7080 --yes --rate 100""",
)
REQUESTS = 2_000
MOST_REQUESTS = 50_000_000
GRPC_SCHEMES, TLS_SCHEMES = ("grpc", "grpcs"), ("https", "grpcs")


@app.default
def load(  # noqa: PLR0913  a test's settings, all by keyword
    model: str,
    /,
    *,
    rate: list[float] | None = None,
    shape: Literal["steady", "ramp", "spike"] = "steady",
    for_: Annotated[str, Parameter(name="--for")] = "5s",
    target: str | None = None,
    quantile: Literal["0.5", "0.95", "0.99", "0.999"] = "0.99",
    errors: float = 0.001,
    rows: int = 1,
    protocol: Literal["json", "v2", "grpc"] | None = None,
    requests: Literal["auto", "recorded", "synthetic"] = "auto",
    value: list[str] | None = None,
    connections: int = 256,
    processes: int = 1,
    timeout: str = "5s",
    replicas: list[int] | None = None,
    need: float | None = None,
    headroom: float = 0.3,
    seed: int = 1,
    url: str | None = None,
    key_file: Path | None = None,
    ca_file: Path | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULT,
) -> int:
    """Simulate traffic: latencies by rate, errors by kind, and what one server and several of it can take.

    With both --rate and --target the exit code is 5 when a rate does not keep the target.

    Args:
        model: Name of the model.
        rate: Requests a second; each for --for. None: the capacity is searched.
        shape: Each rate in turn; from the least to the greatest; or the least, all at once the greatest, the least.
        for_: How long each rate, the whole ramp or the whole spike takes.
        target: What --quantile of the latency must not exceed; 20ms in a search.
        quantile: Of the latency.
        errors: Share of requests that may fail.
        rows: In each request.
        protocol: Plain JSON (the default), the Open Inference Protocol V2, or the same over gRPC.
        requests: Those of history, or made from the contract of the request's source; auto: history if there is any.
        value: NAME=VALUE: a column that is the same in every synthetic request.
        connections: Kept alive at most; over gRPC calls under way.
        processes: That send; one is enough for some thousands a second.
        timeout: After so long a request has failed.
        replicas: Counts to plan for; 1, 2, 4 and 8 when none is given.
        need: Requests a second to be planned for.
        headroom: Share of the capacity that a plan leaves free.
        seed: Of arrivals and synthetic requests.
        url: A server that runs already, rather than a copy of this project; grpc:// or grpcs:// for gRPC.
        key_file: Holds the key that the server at --url asks for; it must be for the model.
        ca_file: Certificates (PEM) of the authority of the server at --url; else those that this machine knows count.
        yes: Its owner agrees.
        options: Where the project is, and how to answer.
    """
    from mainspring.core.spans import parse_span
    from mainspring.load.capacity import Limit, search
    from mainspring.load.pool import pool
    from mainspring.load.shape import steady
    from mainspring.load.traffic import Traffic

    workspace = Workspace(options.project)
    definition = workspace.served(model)
    seconds, timeout_s = (
        parse_span(text, said=f"--{name} {text}") / 1e6 for name, text in (("for", for_), ("timeout", timeout))
    )
    under_ms = parse_span(target or "20ms", said=f"--target {target}") / 1e3
    limit = Limit(float(quantile), under_ms, errors)
    for name, number, least in (("rows", rows, 1), ("processes", processes, 1), ("connections", connections, 1)):
        if number < least:
            raise ConfigError("MS-C105", f"--{name} {number} must be {least} or more")
    _check_plan(rate or [], seconds, errors, replicas or [], need, headroom)
    protocol = _protocol(protocol, url)
    stages = [] if not rate else _runs(rate, shape, seconds)
    origin, asked = _rows(workspace, definition.request, requests, _given(definition.request, value or []), seed)
    terminal.say(options, f"{len(asked):,} {origin} requests, {protocol}, {rows} {'row' if rows == 1 else 'rows'} each")
    path = {"json": f"/predict/{model}", "v2": f"/v2/models/{model}/infer", "grpc": model}[protocol]
    headers = _key(key_file)
    authority = _authority(ca_file, url)
    if url is None:
        _check_released(workspace, definition)
    with _server(workspace, url, options, agreed=yes, grpc=protocol == "grpc", authority=authority) as server:
        host = f"{server.host}:{server.port}"
        run = secrets.randbelow(1 << 16)
        made = pool(
            definition.request,
            path,
            host,
            asked,
            run=run,
            protocol=protocol,
            rows_a_request=rows,
            headers=headers,
        )
        traffic = Traffic(server, made, processes=processes, connections=connections, timeout_s=timeout_s, seed=seed)
        with traffic:
            traffic.probe()
            found = None
            if stages:
                levels = [level for one in stages for level in _run(traffic, one, options)]
            else:
                found = search(lambda r: _run(traffic, steady(r, seconds), options)[0], limit)
                levels = [level for level, _ in found.tried]
    data: dict[str, Any] = {
        "model": model,
        "url": url or "a copy of the project",
        "requests": origin,
        "protocol": protocol,
        "rows": rows,
        "target": {"quantile": limit.quantile, "under_ms": limit.under_ms, "errors": limit.errors},
        "levels": [level_json(level, limit) for level in levels],
    }
    if found is not None:
        data |= capacity_json(found, replicas or [1, 2, 4, 8], need, headroom)
    terminal.answer(options, data, *shown(levels, limit, data))
    fails = target is not None and any(limit.verdict(level) != "kept" for level in levels)
    return RefusedError.exit_code if stages and fails else 0


def _check_released(workspace: Workspace, asked: ModelDef | CompositeDef) -> None:
    """Whether a copy of the project would have anything to answer with."""
    from mainspring.definitions import CompositeDef

    members = asked.members if isinstance(asked, CompositeDef) else (asked,)
    with workspace.catalog() as catalog:
        if any(catalog.champion(one.name) is not None for one in members):
            return
    name = members[0].name
    hint = f"mainspring train {name} --release; or --url for a server that runs elsewhere"
    raise NotFoundError("MS-C119", f"{asked.name} has no release: nobody would answer", hint=hint)


def _protocol(wanted: Literal["json", "v2", "grpc"] | None, url: str | None) -> Literal["json", "v2", "grpc"]:
    """How to ask: as told, or as the URL says."""
    is_grpc = urlsplit(url or "").scheme in GRPC_SCHEMES
    if url is not None and wanted is not None and is_grpc != (wanted == "grpc"):
        what = f"--protocol {wanted} does not go with --url {url!r}"
        hint = "grpc://HOST:PORT is the gRPC door; http:// and https:// are plain JSON's and V2's"
        raise ConfigError("MS-C105", what, hint=hint)
    found = wanted or ("grpc" if is_grpc else "json")
    if found == "grpc" and find_spec("grpc") is None:
        hint = "pip install 'mainspring[grpc]'"
        raise ConfigError("MS-C118", "--protocol grpc needs grpcio, which is not installed", hint=hint)
    return found


def _check_plan(
    rates: list[float], seconds: float, errors: float, replicas: list[int], need: float | None, headroom: float
) -> None:
    if not all(one > 0 for one in rates) or seconds <= 0 or not 0 <= headroom < 1:
        raise ConfigError("MS-C105", "rates and times must be above 0, and --headroom from 0 to below 1")
    if not max(rates, default=0.0) * seconds <= MOST_REQUESTS:
        what = f"--rate {max(rates):g} for {seconds:g} s is more than {MOST_REQUESTS:,} requests"
        raise ConfigError(
            "MS-C105", what, why="when each is sent is fixed before the first one", hint="a shorter --for"
        )
    if not 0 <= errors <= 1:
        raise ConfigError("MS-C105", f"--errors {errors:g} is a share: from 0 to 1")
    if min(replicas, default=1) < 1:
        raise ConfigError("MS-C105", f"--replicas {min(replicas)} must be 1 or more")
    if rates and (replicas or need is not None):
        what = f"{'--replicas' if replicas else '--need'} plans from the capacity, and --rate asks for none"
        raise ConfigError("MS-C105", what, hint="leave --rate out: the capacity is searched then")
    if need is not None and not 0 < need < math.inf:
        raise ConfigError("MS-C105", f"--need {need:g} must be above 0 and finite")


def _runs(rate: list[float], shape: str, seconds: float) -> list[tuple[Stage, ...]]:
    from mainspring.load.shape import ramp, spike, steady

    if shape == "steady":
        return [steady(one, seconds) for one in rate]
    if min(rate) == max(rate):
        raise ConfigError("MS-C105", f"a {shape} needs two rates", hint=f"--rate 100 --rate 1000 --shape {shape}")
    return [(ramp if shape == "ramp" else spike)(min(rate), max(rate), seconds)]


def _run(traffic: Traffic, stages: tuple[Stage, ...], options: Options) -> list[Level]:
    low, high = stages[0].low, max(stage.high for stage in stages)
    seconds = sum(stage.seconds for stage in stages)
    terminal.say(options, f"{low:,.0f}{f' to {high:,.0f}' if high != low else ''} requests/s for {seconds:g} s …")
    return traffic.run(stages)


def _rows(
    workspace: Workspace, source: SourceDef, wanted: str, given: dict[str, Any], seed: int
) -> tuple[str, list[dict[str, Any]]]:
    """Where the requests are from, and their rows."""
    from mainspring.load.rows import recorded, synthetic

    if wanted == "recorded" and given:
        why = "it fixes a column of requests that are made up"
        raise ConfigError(
            "MS-C105", "--value does not go with --requests recorded", why=why, hint="leave one of them out"
        )
    if wanted != "synthetic" and not given:
        with workspace.history() as history:
            frame = history.frame(source.name, source.columns)
        if wanted == "recorded" or not frame.is_empty():
            return "recorded", recorded(source, frame, REQUESTS)
    return "synthetic", synthetic(source, REQUESTS, workspace.clock.now_us(), seed, given)


def _given(source: SourceDef, values: list[str]) -> dict[str, Any]:
    """``NAME=VALUE``: as JSON where it is a number or a truth, else as text."""
    import json

    from mainspring.core.names import did_you_mean

    out: dict[str, Any] = {}
    for one in values:
        name, equals, text = one.partition("=")
        if not equals or name not in source.columns:
            hint = did_you_mean(name, source.columns)
            raise ConfigError("MS-C105", f"--value {one}: {source.name} has no column {name!r}", hint=hint)
        kind = source.columns[name].kind
        try:
            out[name] = text if kind in ("str", "datetime") else json.loads(text)
        except ValueError:
            raise ConfigError("MS-C105", f"--value {one}: {name} is {kind}, and {text!r} is none") from None
    return out


def _key(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("MS-C105", f"--key-file cannot be read: {error}", where=str(file)) from None
    if not key or not key.isprintable():
        raise ConfigError("MS-C105", "--key-file holds no key", where=str(file), hint="mainspring keys create")
    return {"Authorization": f"Bearer {key}"}


def _authority(file: Path | None, url: str | None) -> str | None:
    """The certificates that the server's may be signed by."""
    if file is None:
        return None
    if urlsplit(url or "").scheme not in TLS_SCHEMES:
        raise ConfigError("MS-C105", "--ca-file goes with a --url that begins with https:// or grpcs://")
    try:
        text = file.read_text(encoding="utf-8")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError, ssl.SSLError) as error:
        what = f"--ca-file cannot be used: {error}"
        raise ConfigError("MS-C105", what, where=str(file), hint="certificates as PEM") from None
    return text


@contextmanager
def _server(
    workspace: Workspace, url: str | None, options: Options, *, agreed: bool, grpc: bool, authority: str | None
) -> Iterator[Server]:
    from mainspring.load.traffic import Server

    if url is None:
        from mainspring.load.replica import replica

        terminal.say(options, "starting a copy of the project …")
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            with replica(workspace.config, grpc=grpc) as own:
                parts = urlsplit(own)
                yield Server(parts.hostname or "", parts.port or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", *GRPC_SCHEMES) or not parts.hostname or (grpc and not parts.port):
        what = f"--url {url!r} is no http:// or https:// URL, nor grpc:// with a port"
        raise ConfigError("MS-C105", what, hint="--url http://127.0.0.1:7070, --url grpc://127.0.0.1:7080")
    if not agreed:
        far = "" if _is_here(parts.hostname) else ", and it is not on this machine"
        raise RefusedError(
            "MS-C103",
            f"{url} was not started for a test{far}",
            why="what it is asked is logged, becomes events of the request's source, and is learned from",
            hint="without --url a copy of this project is asked; --yes asks this one all the same",
        )
    tls = parts.scheme in TLS_SCHEMES
    yield Server(parts.hostname, parts.port or (443 if tls else 80), tls, authority)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
