"""The sender: every request is timed from when it was meant to be sent, and each ends in one way."""

import socket
import threading
import time

import numpy as np
import pytest
from servers import OK

from mainspring.load.capacity import Limit
from mainspring.load.measure import levels
from mainspring.load.sender import ANSWERED, NOT_SENT, TIMEOUT, Job, send
from mainspring.load.shape import arrivals, steady
from mainspring.load.traffic import Server, Traffic

STALL, STALL_S = threading.Event(), 0.5


def job(port, pool, times_s, **more):
    return Job("127.0.0.1", port, False, pool, np.asarray(times_s, float), **more)


def kinds(sent):
    return [sent.kinds[kind] for kind in sent.kind]


def test_a_stall_is_seen_by_every_request_that_was_due_in_it(answering, plain):
    stalled = []

    def answer(number):
        if number == 300:
            begins_s = time.monotonic()
            STALL.wait(STALL_S)  # the whole server stands still: that is what is looked for
            stalled.append((begins_s, time.monotonic()))
        return OK

    stages = steady(1_000.0, 1.5)
    times_s, numbers = arrivals(stages, seed=1)
    begins_s = time.monotonic() + 0.2
    with answering(answer) as server:
        sent = send(job(server.port, plain, times_s, begins_s=begins_s, connections=64))
    assert set(kinds(sent)) == {ANSWERED}
    ((since_s, until_s),) = stalled
    due_s = begins_s + times_s
    caught = (due_s > since_s) & (due_s < until_s)
    assert caught.sum() > 400  # 1,000 a second were due for half a second; a client that waits would have asked 64
    assert (sent.latency_s[caught] >= until_s - due_s[caught]).all()
    (level,) = levels(stages, numbers, sent)
    assert level.at(0.99) > STALL_S * 1e3 * 0.9
    assert level.at(0.95) > STALL_S * 1e3 * 0.7
    assert Limit(0.99, 100.0).verdict(level) != "kept"


def test_a_client_that_waits_for_its_answers_would_not_have_seen_it(answering):
    """The same stall and a closed loop: what the sender is not."""

    def answer(number):
        if number == 300:
            STALL.wait(STALL_S)
        return OK

    taken = []
    with answering(answer) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(1_000):
            began = time.monotonic()
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
            client.recv(1_000)
            taken.append(time.monotonic() - began)
    assert sum(one >= STALL_S for one in taken) == 1


def test_connections_are_kept_alive_and_no_more_than_asked_for(answering, plain):
    with answering(lambda _: OK) as server:
        sent = send(job(server.port, plain, np.arange(500) / 5_000, connections=4))
    assert set(kinds(sent)) == {ANSWERED}
    assert 1 <= server.connections <= 4
    assert len(set(server.seen)) == 500


def test_what_has_no_answer_in_time_is_counted_with_the_time_it_waited(answering, plain):
    with answering(lambda number: OK if number == 1 else None) as server:
        sent = send(job(server.port, plain, [0.0, 0.2, 0.21, 0.22], connections=1, timeout_s=2.0))
    assert kinds(sent)[:2] == [ANSWERED, TIMEOUT]
    assert set(kinds(sent)[2:]) <= {NOT_SENT, TIMEOUT}
    assert (sent.latency_s[1:] >= 2.0).all()
    (level,) = levels(steady(4.0, 1.0), np.zeros(4, np.int16), sent)
    assert level.at(0.99) >= 2_000
    assert level.error_share == 0.75


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", "the connection was closed"),
        (b"nonsense\r\n\r\n", "the answer is no HTTP"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "503"),
        (b'HTTP/1.1 429 No\r\nContent-Length: 20\r\n\r\n{"code":  "MS-S111"}', "429 MS-S111"),
        (b'HTTP/1.1 400 No\r\nContent-Length: 16\r\n\r\n{"error": "bad"}', "400 bad"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n[{},{"error": "x"}]'[:-1], "some rows failed"),
    ],
)
def test_an_error_has_its_kind_and_those_after_it_are_answered(answering, plain, answer, kind):
    with answering(lambda number: answer if number == 1 else OK) as server:
        sent = send(job(server.port, plain, [0.0, 0.3, 0.4], connections=1))
    assert kinds(sent) == [kind, ANSWERED, ANSWERED]


def test_a_server_that_is_not_there_fails_each_request_and_nothing_hangs(plain):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sent = send(job(taken.getsockname()[1], plain, np.arange(50) / 500, connections=8))
    assert {kind.partition(":")[0] for kind in kinds(sent)} == {"no connection"}


def test_several_processes_send_what_one_would_and_no_id_twice(answering, plain):
    with (
        answering(lambda _: OK) as server,
        Traffic(Server("127.0.0.1", server.port), plain, processes=2, seed=7) as traffic,
    ):
        traffic.probe()
        (level,) = traffic.run(steady(200.0, 0.5))
    assert level.sent == int(level.answered_per_s * 0.5 + 0.5) > 50
    assert len(set(server.seen)) == len(server.seen)
    assert not level.errors
