"""Plain JSON: ``POST /predict/{model}`` takes one object or a list of them, with the columns of the request source.

The time may be left out. One in, one out: ``{"prediction", "prediction_id", "model_version", "variant"}``, with
``fallback`` when the assigned model could not answer, and with ``status`` by feature under ``?status=1``. In a list a
bad row is answered in its place by ``{"error", "code", "where"}``. ``X-Deadline-Ms`` says how long an answer is wanted
(5 s if it does not). The body may be gzip or deflate (``Content-Encoding``). 200, also when some rows are bad; 400 no
JSON, or a time that is not now; 404 no such model; 413 too large; 415 another coding, or a body that is not of its own;
422 every row breaks its contract; 429 with ``Retry-After``, too many rows wait; 503 no model can answer; 504 too late.
"""

from __future__ import annotations

from time import perf_counter

from mainspring.core.errors import MainspringError
from mainspring.core.http import Deferred, Request, Response, WrongMethodError
from mainspring.serving.bodies import SMALL_BYTES
from mainspring.serving.content_coding import decoded
from mainspring.serving.lane import Lane
from mainspring.serving.reply import ListReply, RowReply
from mainspring.serving.request import MalformedError


def predict(lane: Lane, request: Request, max_body_bytes: int) -> Response | Deferred:
    """Queue the good rows of a request; its answer says what became of each row.

    Args:
        lane: Of the model.
        request: Its body may be compressed.
        max_body_bytes: What that may hold.

    Returns:
        The answer itself when no row is good.

    Raises:
        MainspringError: The request is refused as a whole.
    """
    received_s = perf_counter()
    wait, coding, body = request.headers.get("x-deadline-ms"), request.headers.get("content-encoding"), request.body
    try:
        deadline_s = None if wait is None else _seconds(wait)
        if coding is None and body.startswith(b"{") and len(body) < SMALL_BYTES:
            alone = RowReply(shows_status=_shows_status(request))
            if lane.submit_body(body, alone, received_s, deadline_s):
                return alone
        read = lane.requests.read(body if coding is None else decoded(body, coding, max_body_bytes))
    except MainspringError as error:
        lane.refuse(error)
        raise
    for bad in read.errors:
        lane.refuse(bad)
    if not read.rows:
        return Response(422 if read.errors else 200, b"[" + b",".join(read.answers) + b"]")
    shows_status = _shows_status(request)
    reply: RowReply | ListReply
    if read.is_list:
        reply = ListReply(places=read.places, answers=read.answers, shows_status=shows_status)
    else:
        reply = RowReply(shows_status=shows_status)
    lane.submit(read.rows, read.times_us, reply, received_s, deadline_s)
    return reply


def _shows_status(request: Request) -> bool:
    return bool(request.query) and "status=1" in request.query.split("&")


def _seconds(text: str) -> float:
    """Milliseconds in a header as seconds."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text) / 1_000
    what = f"X-Deadline-Ms: {text[:20]!r} is no whole number of milliseconds, of nine digits at most"
    raise MalformedError("MS-S115", what, hint="leave it out to wait as long as the gateway does")


def allow(method: str, *allowed: str) -> None:
    """Refuse a method that is not answered at a path.

    Raises:
        WrongMethodError: It is not among ``allowed``, of which the first is the one to use (MS-S114).
    """
    if method not in allowed:
        raise WrongMethodError("MS-S114", f"this door takes {allowed[0]}", allowed=", ".join(allowed))
