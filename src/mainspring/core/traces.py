"""Spans of a process for OpenTelemetry, sent by OTLP over HTTP: only where ``[traces]`` is declared.

What is not declared is not imported and costs nothing: a door's handler is wrapped, or it is not. Whoever asks with a
W3C ``traceparent`` has the answer's spans in the trace, and its choice whether they are recorded is kept; others are
recorded by their declared share. The answer's own ``traceparent`` names the span, so that it can be found.

Spans are made once their times are known, from two readings of ``time.perf_counter``: nothing is timed for them alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mainspring.core.config import TracesSection
from mainspring.core.errors import ConfigError, MainspringError
from mainspring.core.messages import Deferred, Handler, Request, Response, error_response
from mainspring.core.seldom import Seldom

if TYPE_CHECKING:
    from opentelemetry.trace import Span

HEADER = "traceparent"
Attributes = Mapping[str, str | int]
EXPORT_S = 5.0
"""How long a collector may take; a slower one loses spans, and holds nobody up."""
EVERY_MS = 1_000
"""How often what has gathered is sent."""
TELLS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")
"""Loggers that tell of spans that could not be sent."""
_SELDOM = Seldom()


class Trace:
    """A span under way, and what belongs under it."""

    __slots__ = ("_own", "_span")

    def __init__(self, span: Span, own: Traces) -> None:
        self._span = span
        self._own = own

    @property
    def header(self) -> str:
        """The span as others name it."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def part(self, name: str, started_s: float, ended_s: float, attributes: Attributes) -> None:
        """A finished part of it; times on ``time.perf_counter``."""
        if self._span.is_recording():
            self._own.add(name, started_s, ended_s, attributes, under=self)

    def part_of(self) -> Span:
        """The span, as OpenTelemetry knows it."""
        return self._span

    def end(self, status: str | int, *, failed: bool) -> None:
        """It is over, now; what a client has asked wrongly is no failure."""
        span = self._span
        if span.is_recording():
            from opentelemetry.trace import StatusCode

            span.set_attribute("http.response.status_code" if isinstance(status, int) else "rpc.grpc.status", status)
            if failed:
                span.set_status(StatusCode.ERROR)
            span.end()

    def answered(self, response: Response) -> Response:
        """It ends with an answer, which says so in its head."""
        self.end(response.status, failed=response.status >= 500)
        return Response(
            response.status, response.body, response.content_type, (*response.headers, (HEADER, self.header))
        )


class Traces:
    """Makes and sends the spans of one process.

    Args:
        section: ``[traces]`` of ``mainspring.toml``.
        service: What the process is called.

    Attributes:
        current: What is asked now, while a handler runs; a handler does not wait.

    Raises:
        ConfigError: What it needs is not installed (MS-C116).
    """

    def __init__(self, section: TracesSection, service: str) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError as error:
            hint = "pip install 'mainspring[traces]'"
            raise ConfigError("MS-C116", f"[traces] needs {error.name}, which is not installed", hint=hint) from None
        for name in TELLS:  # a collector that is away is told of once a minute, not once a second
            logging.getLogger(name).addFilter(_SELDOM)
        exporter = OTLPSpanExporter(f"{section.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_S)
        self._provider = TracerProvider(
            ParentBasedTraceIdRatio(section.share),
            Resource.create({"service.name": f"mainspring-{service}"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EVERY_MS))
        self._tracer = self._provider.get_tracer("mainspring")
        self._read = TraceContextTextMapPropagator().extract
        self.current: Trace | None = None

    def begin(self, name: str, parent: str | None, attributes: Attributes) -> Trace:
        """A span that somebody else's request starts.

        Args:
            name: Of few that there are.
            parent: The request's ``traceparent``, if it has one; what is none is as if there were none.
            attributes: Of the span.
        """
        from opentelemetry.trace import SpanKind

        context = self._read({HEADER: parent}) if parent else None
        return Trace(self._tracer.start_span(name, context, SpanKind.SERVER, dict(attributes)), self)

    def add(
        self,
        name: str,
        started_s: float,
        ended_s: float,
        attributes: Attributes,
        *,
        under: Trace | None = None,
    ) -> None:
        """A finished span; times on ``time.perf_counter``."""
        from opentelemetry.trace import set_span_in_context

        context = None if under is None else set_span_in_context(under.part_of())
        zero_ns = time.time_ns() - int(time.perf_counter() * 1e9)
        started_ns, ended_ns = (zero_ns + int(moment_s * 1e9) for moment_s in (started_s, ended_s))
        span = self._tracer.start_span(name, context, attributes=dict(attributes), start_time=started_ns)
        span.end(ended_ns)

    @contextmanager
    def at(self, trace: Trace | None) -> Iterator[None]:
        """What is queued within belongs to a request; nothing is waited for within."""
        self.current = trace
        try:
            yield
        finally:
            self.current = None

    def around(self, handler: Handler, paths: tuple[str, ...]) -> Handler:
        """A handler whose answers at paths that begin so have a span."""

        def traced(request: Request) -> Response | Deferred | Awaitable[Response]:
            path = request.path
            if not path.startswith(paths):
                return handler(request)
            name = f"{request.method} /{path.split('/', 2)[1]}"
            asked = {"http.request.method": request.method, "url.path": path}
            trace = self.begin(name, request.headers.get(HEADER), asked)
            try:
                with self.at(trace):
                    answer = handler(request)
            except MainspringError as error:
                return trace.answered(error_response(error))
            except Exception:
                trace.end(500, failed=True)
                raise
            if isinstance(answer, Response):
                return trace.answered(answer)
            if not isinstance(answer, Deferred):
                return _awaited(trace, answer)
            if answer.response is not None:
                answer.response = trace.answered(answer.response)
            else:
                answer.last = trace.answered
            return answer

        return traced

    def close(self) -> None:
        """Send what there is; waits for the collector, a while."""
        self._provider.shutdown()


async def _awaited(trace: Trace, answer: Awaitable[Response]) -> Response:
    try:
        return trace.answered(await answer)
    except MainspringError as error:
        return trace.answered(error_response(error))
    except BaseException:
        trace.end(500, failed=True)
        raise


def traces_of(section: TracesSection | None, service: str) -> Traces | None:
    """The spans of a process, where they are declared."""
    return None if section is None else Traces(section, service)
