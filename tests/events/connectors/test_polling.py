"""A web service that is asked again and again: cursors, watermarks, whole lists, answers that make no sense."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from mainspring.core.errors import ConfigError, MainspringError


class Service:
    """Answers with what ``answer(query, headers)`` gives; keeps what it was asked."""

    def __init__(self):
        self.answer = lambda query: []
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
                outer.asked.append((query, dict(self.headers)))
                found = outer.answer(query)
                status, body = found if isinstance(found, tuple) else (200, json.dumps(found).encode())
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "http://localhost:1/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/rides"


@pytest.fixture
def service():
    found = Service()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def rides(*numbers):
    return [{"ride": f"r{n}", "km": 1.0, "at": f"2026-01-02T03:04:{n:02}Z"} for n in numbers]


def test_a_cursor_of_the_service_is_sent_back(feed, service, monkeypatch):
    monkeypatch.setenv("RIDES_TOKEN", "t-1234")
    pages = {None: (rides(1, 2), "p2"), "p2": (rides(3), "p3"), "p3": ([], "p3")}
    service.answer = lambda query: dict(zip(("items", "next"), pages[query.get("after")], strict=True))
    one = feed(
        kind="http",
        source="ride",
        url=f"{service.url}?city=graz",
        rows="items",
        next="next",
        since="after",
        headers={"Authorization": "Bearer ${RIDES_TOKEN}"},
    )
    assert one.once() == ["accepted"] * 3
    assert one.once() == []
    assert one.ids() == ["r1", "r2", "r3"]
    assert [query for query, _ in service.asked] == [
        {"city": "graz"},
        {"city": "graz", "after": "p2"},
        {"city": "graz", "after": "p3"},
        {"city": "graz", "after": "p3"},
    ]
    assert all(headers["Authorization"] == "Bearer t-1234" for _, headers in service.asked)


def test_the_greatest_value_of_a_field_is_sent_back_and_ties_come_once_by_their_ids(feed, service):
    every = rides(1, 2, 3)
    service.answer = lambda query: [row for row in every if row["at"] >= query.get("since", "")]
    one = feed(kind="http", source="ride", url=service.url, watermark="at")
    assert one.once() == ["accepted"] * 3 + ["duplicate"]
    assert one.once() == []  # the answer is like the last one
    every.append(dict(every[-1], ride="tie"))
    assert one.once() == ["duplicate", "accepted"]
    assert one.ids() == ["r1", "r2", "r3", "tie"]
    assert service.asked[-1][0] == {"since": "2026-01-02T03:04:03Z"}


def test_whole_lists_are_told_apart_by_ids_and_large_ones_come_in_batches(feed, service):
    every = rides(*range(1, 8))
    service.answer = lambda query: every
    one = feed(kind="http", source="ride", url=service.url, batch=3)
    assert one.once() == ["accepted"] * 7
    assert len(service.asked) == 1
    every.append(rides(9)[0])
    assert one.once() == ["duplicate"] * 7 + ["accepted"]


def test_a_row_that_breaks_the_contract_waits_in_quarantine(feed, service):
    service.answer = lambda query: [*rides(1), {"ride": "bad"}, 7, None]
    one = feed(kind="http", source="ride", url=service.url)
    assert one.once() == ["accepted", "quarantined", "quarantined", "quarantined"]
    assert one.once() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, b"{}"), "MS-E434: the service answers 500"),
        ((429, b"{}"), "429"),
        ((302, b""), "another host"),
        ((200, b"nope"), "MS-E435: the answer is no JSON"),
        ((200, b"[" * 50_000), "no JSON"),
        ({"items": []}, "no list at its top"),
        ([{"at": 1}, {"at": "x"}], "none is the greatest"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error(feed, service, answer, error):
    service.answer = lambda query: answer
    with pytest.raises(MainspringError, match=error):
        feed(kind="http", source="ride", url=service.url, watermark="at").once()


@pytest.mark.parametrize(
    "table",
    [{"url": "file:///etc/passwd"}, {"next": "a", "watermark": "b"}, {"source": "tick"}],
)
def test_what_cannot_be_is_said(feed, service, table):
    with pytest.raises(ConfigError, match="MS-C086"):
        feed(**{"kind": "http", "source": "ride", "url": service.url} | table).once()
