"""The gateway's HTTP paths: predictions, and what is told of them.

``POST /predict/{model}``: see ``plain_json``.
``/v2/…``: the Open Inference Protocol V2.
``GET /openapi.json``, ``GET /docs``: what is served, for programs and for people.
``GET /ready``: 503 until routes are loaded and once this worker stops. ``GET /health``: who serves, what is wrong.
``GET /metrics``: Prometheus text. Health, metrics and V2's statistics are those of all workers, whoever is asked.
``POST /internal/reload`` with the project's internal token: answers once the present routes serve in every worker.
``/internal/own/health``, ``…/metrics``, ``…/stats``, ``…/reload``: the same of this worker alone.
"""

from __future__ import annotations

import hmac
from typing import Any, Protocol

import msgspec

from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.core.http import Deferred, Request, Response, json_response
from mainspring.core.keys import READ, Keyring
from mainspring.serving import openapi
from mainspring.serving.health import health_of_all, problems_of
from mainspring.serving.openapi_page import page
from mainspring.serving.plain_json import allow, predict
from mainspring.serving.siblings import Siblings, together
from mainspring.serving.snapshot import Snapshot
from mainspring.serving.v2 import Models
from mainspring.serving.v2_rest import V2Rest
from mainspring.serving.v2_stats import stats_of, summed

_PREDICT, _V2, _OWN = "/predict/", "/v2", "/internal/own/"
_READABLE = ("/ready", "/health", "/metrics", "/openapi.json", "/docs")
TRACED = ("/predict/", "/v2/models/")
"""Paths whose answers have a span, where spans are declared."""
_ASK_S, _RELOAD_S = 2.0, 30.0


class Served(Models, Protocol):
    """The gateway behind the paths."""

    async def reload(self) -> Snapshot:
        """Load the catalog's routes and swap."""

    def health(self) -> dict[str, Any]:
        """What this worker says of itself."""

    def metrics(self) -> str:
        """What this worker has counted, as Prometheus reads it."""


class Front:
    """Answers requests.

    Args:
        served: The gateway.
        siblings: Its other workers.
        token: The project's internal token.
        max_body_bytes: Of a request.
        max_rows: Of a request.

    Attributes:
        keyring: Who may ask; None where nobody needs a key.
    """

    def __init__(self, served: Served, siblings: Siblings, token: str, *, max_body_bytes: int, max_rows: int) -> None:
        self._served = served
        self._siblings = siblings
        self._token = token
        self._max_rows = max_rows
        self._max_body_bytes = max_body_bytes
        self.keyring: Keyring | None = None
        self._v2 = V2Rest(served, max_body_bytes)

    def handle(self, request: Request) -> Response | Deferred | Any:
        """Answer one request."""
        path, method = request.path, request.method
        if self.keyring is not None and (scopes := scopes_of(path)):
            self.keyring.check(request.headers.get("authorization", ""), *scopes)
        if path.startswith(_PREDICT):
            allow(method, "POST")
            return predict(self._served.lane(path[len(_PREDICT) :]), request, self._max_body_bytes)
        if path == _V2 or path.startswith("/v2/"):
            answer = self._v2.handle(request)
            if isinstance(answer, Response) and answer.status == 200 and self._siblings and _is_stats(path):
                return self._stats_of_all(answer)
            return answer
        if path in _READABLE:
            allow(method, "GET", "HEAD")
            return self._read(path)
        if path == "/internal/reload":
            allow(method, "POST")
            self._check_token(request)
            return self._reload()
        if path.startswith(_OWN):
            self._check_token(request)
            return self._own(path[len(_OWN) :])
        hint = "POST /predict/MODEL, GET /docs, /ready, /health or /metrics"
        raise NotFoundError("MS-S107", f"there is nothing at {path[:200]!r}", hint=hint)

    def _read(self, path: str) -> Response | Any:
        """What a GET answers."""
        match path:
            case "/ready":
                return self._ready()
            case "/health":
                return self._health()
            case "/metrics":
                return self._metrics()
        models = (lane.served.model for lane in self._served.lanes.values())
        described = openapi.document(models, self._max_rows, None if self.keyring is None else scopes_of)
        if path == "/openapi.json":
            return json_response(200, described)
        return Response(200, page(described).encode(), "text/html; charset=utf-8")

    def _own(self, what: str) -> Response | Any:
        """What this worker alone answers."""
        match what:
            case "health":
                return json_response(200, self._served.health())
            case "metrics":
                return _text(self._served.metrics())
            case "stats":
                return json_response(200, [stats_of(lane) for lane in self._served.lanes.values()])
            case "reload":
                return self._reload_own()
        raise NotFoundError("MS-S107", "there is nothing here")

    def _ready(self) -> Response:
        if not self._served.is_ready:
            return json_response(503, {"ready": False}, (("Retry-After", "1"),))
        models = sorted(name for name, lane in self._served.lanes.items() if lane.served.answers)
        return json_response(200, {"ready": True, "models": models})

    def _health(self) -> Response | Any:
        return self._health_of_all() if self._siblings else json_response(200, self._served.health())

    async def _health_of_all(self) -> Response:
        found = await self._siblings.ask("GET", "/internal/own/health", _ASK_S)
        others = {number: msgspec.json.decode(body) for number, body in found.items()}
        return json_response(200, health_of_all({self._siblings.own: self._served.health()} | others))

    def _metrics(self) -> Response | Any:
        return self._metrics_of_all() if self._siblings else _text(self._served.metrics())

    async def _metrics_of_all(self) -> Response:
        found = await self._siblings.ask("GET", "/internal/own/metrics", _ASK_S)
        texts = {number: body.decode() for number, body in found.items()}
        return _text(together({self._siblings.own: self._served.metrics()} | texts))

    async def _stats_of_all(self, own: Response) -> Response:
        """V2's statistics, summed: its form has no place to tell workers apart."""
        found = msgspec.json.decode(own.body)
        if "model_stats" not in found:  # a model of that name
            return own
        others = await self._siblings.ask("GET", "/internal/own/stats", _ASK_S)
        stats = summed(found["model_stats"], map(msgspec.json.decode, others.values()))
        return json_response(200, {"model_stats": stats})

    async def _reload(self) -> Response:
        own = await self._reload_own()
        await self._siblings.ask("POST", "/internal/own/reload", _RELOAD_S)
        return own

    async def _reload_own(self) -> Response:
        snapshot = await self._served.reload()
        return json_response(200, {"generation": snapshot.generation, "problems": problems_of(snapshot)})

    def _check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise RefusedError("MS-S112", "this door is for the project's own processes")


def scopes_of(path: str) -> tuple[str, ...]:
    """The scopes of which a request needs one; none for what anybody may ask, or what needs the internal token."""
    if path.startswith(_PREDICT):
        return (f"predict:{path[len(_PREDICT) :]}",)
    parts = path.strip("/").split("/")
    match parts:
        case ["ready"] | ["v2"] | ["v2", "health", *_] | ["internal", *_]:
            return ()
        case ["v2", "models", "stats"]:
            return (READ,)
        case ["v2", "models", model, *_]:
            return (f"predict:{model}",) if parts[-1] == "infer" else (READ, f"predict:{model}")
    return (READ,)


def _is_stats(path: str) -> bool:
    parts = path.rstrip("/").split("/")
    return parts[1:3] == ["v2", "models"] and parts[-1] == "stats"


def _text(exposition: str) -> Response:
    return Response(200, exposition.encode(), "text/plain; version=0.0.4")
