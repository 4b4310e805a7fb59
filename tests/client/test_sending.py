"""What ``send`` promises: outcomes, batches, patience, a spool that outlives its process, bounds."""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest

import mainspring as ms
from mainspring.core.errors import BackPressureError, ContractError, RefusedError, UnavailableError
from mainspring.events.log import Log

DIES = """
import os, signal, sys
import mainspring as ms
url, spool, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = ms.Client(url, spool=spool, batch_rows=10)
for i in range(n):
    client.send("payment", {"payment_id": f"p{i}", "amount": float(i), "paid_at": "2013-03-01T11:00:00Z"})
    print(i, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def payment(ident, amount=1.0):
    return {"payment_id": str(ident), "amount": amount, "paid_at": datetime(2013, 3, 1, 11, tzinfo=UTC)}


def ids(config):
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return [record.values[0] for record in log.read(0)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_every_event_of_a_list_has_its_outcome_in_the_order_sent(start):
    with start() as running, ms.Client(running.url) as client:
        events = [payment(1), {"payment_id": "2"}, payment(1), payment(3), payment(1, amount=2.0)]
        outcomes = client.send("payment", events).outcomes(20)
        assert [one.status for one in outcomes] == ["accepted", "quarantined", "duplicate", "accepted", "quarantined"]
        assert [one.code for one in outcomes] == ["", "MS-E102", "", "", "MS-E106"]
        assert [one.is_stored for one in outcomes] == [True, False, True, True, False]
        assert client.totals == ms.client.Totals(accepted=2, duplicate=1, quarantined=2, refused=0)


def test_events_sent_one_by_one_travel_together_and_in_order(start):
    with start() as running:
        with ms.Client(running.url, batch_rows=50, batch_s=60) as client:
            for i in range(200):
                client.send("payment", payment(i))
            client.flush(20)
            commits = running.intake._committer.metrics()
        assert ids(running.config) == [str(i) for i in range(200)]
        assert int(next(line for line in commits if "seconds_count" in line).split()[1]) <= 5


def test_a_batch_leaves_once_its_oldest_event_has_waited_long_enough(start):
    with start() as running, ms.Client(running.url, batch_rows=1_000_000, batch_s=0.01) as client:
        assert client.send("payment", payment(1)).outcomes(20)[0].status == "accepted"


def test_numpy_values_and_nan_are_sent_and_what_no_json_can_say_is_refused_with_its_place(start):
    with start() as running, ms.Client(running.url) as client:
        assert client.send("payment", payment("a", np.float32(0.5)) | {"amount": np.nan}).outcomes(20)[0].is_stored
        with pytest.raises(ContractError, match=r"MS-E505(.|\n)*event 1"):
            client.send("payment", [payment("b"), payment("c", object())])
        with pytest.raises(ContractError, match="MS-E505: an event is a mapping"):
            client.send("payment", ["b"])
        with pytest.raises(ContractError, match="MS-E507"):
            client.send("../quarantine", payment("b"))
        client.flush(20)
        assert ids(running.config) == ["a"]


def test_events_wait_for_an_intake_that_is_away_and_flush_says_why(start):
    port = free_port()
    with ms.Client(f"http://127.0.0.1:{port}") as client:
        sent = client.send("payment", payment(1))
        with pytest.raises(UnavailableError, match=r"MS-E502(.|\n)*cannot be reached"):
            client.flush(0.3)
        with start(port) as running:
            assert sent.outcomes(30)[0].status == "accepted"
            assert ids(running.config) == ["1"]


def test_a_full_intake_is_waited_for_as_long_as_it_asks(start, monkeypatch):
    with start() as running:
        full = threading.Event()
        full.set()
        check = running.intake._committer.check_room

        def check_room(size):
            if full.is_set():
                full.clear()
                raise BackPressureError("MS-E306", "full")
            check(size)

        monkeypatch.setattr(running.intake._committer, "check_room", check_room)
        with ms.Client(running.url) as client:
            began_s = time.monotonic()
            assert client.send("payment", payment(1)).outcomes(30)[0].status == "accepted"
            assert time.monotonic() - began_s >= 1.0  # Retry-After: 1


def test_a_batch_that_is_too_large_is_sent_in_halves(start):
    with start(max_body_bytes=2_000) as running, ms.Client(running.url) as client:
        outcomes = client.send("payment", [payment(i) for i in range(200)]).outcomes(30)
        assert {one.status for one in outcomes} == {"accepted"}
        assert len(ids(running.config)) == 200


def test_what_the_intake_does_not_take_is_listed_and_can_be_sent_again(start, tmp_path, caplog):
    with start(max_body_bytes=2_000) as running, ms.Client(running.url, spool=tmp_path / "spool") as client:
        with caplog.at_level(logging.ERROR):
            outcomes = client.send("payments", [payment(1), payment(2)]).outcomes(20)
        large = client.send("payment", payment("x" * 3_000)).outcomes(20)
        assert [one.status for one in (*outcomes, *large)] == ["refused"] * 3
        assert [one.code for one in (*outcomes, *large)] == ["MS-E201", "MS-E201", "MS-S004"]
        assert "no source is named 'payments'" in caplog.text
        held = client.refused()
        assert [one.source for one in held] == ["payments", "payments", "payment"]
        assert held[1].fields["payment_id"] == "2"
        assert client.send_refused() == 3
        client.flush(20)
        assert client.totals.refused == 6


@pytest.mark.parametrize("is_on_disk", [False, True], ids=["memory", "spool"])
def test_an_outbox_without_room_makes_send_wait_and_then_says_so(start, tmp_path, is_on_disk):
    port, spool = free_port(), tmp_path / "spool" if is_on_disk else None
    with ms.Client(f"http://127.0.0.1:{port}", spool=spool, spool_bytes=1_000, timeout_s=0.2) as client:
        kept = [client.send("payment", payment(i)) for i in range(4)]
        with pytest.raises(BackPressureError, match=r"MS-E501: no room for 1 of 1 events"):
            kept.extend(client.send("payment", payment(i)) for i in range(4, 100))
        assert len(kept) < 30
        with start(port) as running:
            client.flush(30)
            assert len(ids(running.config)) == len(kept)


def test_a_closed_client_says_what_is_lost_and_takes_no_more():
    client = ms.Client(f"http://127.0.0.1:{free_port()}")
    sent = client.send("payment", payment(1))
    with pytest.raises(UnavailableError, match="lost"):
        client.close(0.1)
    with pytest.raises(UnavailableError, match="MS-E503"):
        sent.outcomes(1)
    with pytest.raises(RefusedError, match="MS-E504"):
        client.send("payment", payment(2))


def test_a_spool_keeps_what_was_not_sent_for_the_next_client(start, tmp_path):
    with ms.Client(f"http://127.0.0.1:{free_port()}", spool=tmp_path / "spool", timeout_s=0.1) as client:
        client.send("payment", [payment(i) for i in range(10)])
    with start() as running, ms.Client(running.url, spool=tmp_path / "spool") as client:
        client.send("payment", payment("mine"))
        client.flush(20)
        assert ids(running.config) == [*map(str, range(10)), "mine"]
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.crash
@pytest.mark.parametrize("is_there", [True, False], ids=["intake up", "intake away"])
def test_every_event_that_was_given_to_send_arrives_after_kill_minus_9(start, tmp_path, is_there):
    spool = str(tmp_path / "spool")
    with start() as running:
        url = running.url if is_there else f"http://127.0.0.1:{free_port()}"
        done = subprocess.run([sys.executable, "-c", DIES, url, spool, "300"], capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stdout.split()[-1] == b"299"
        with ms.Client(running.url, spool=spool) as client:
            client.flush(30)
        assert ids(running.config) == [f"p{i}" for i in range(300)]
    assert list((tmp_path / "spool").iterdir()) == []


def test_many_threads_share_a_client(start):
    with start() as running, ms.Client(running.url) as client:
        threads = [
            threading.Thread(target=lambda k=k: [client.send("payment", payment(f"{k}-{i}")) for i in range(200)])
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.flush(30)
        assert len(ids(running.config)) == 1_600
        assert client.totals.accepted == 1_600


def test_the_project_that_runs_here_is_found_without_a_url(start, tmp_path):
    with start() as running, ms.Client(project=tmp_path) as client:
        assert client.send("payment", payment(1)).outcomes(20)[0].is_stored
        assert running.url


def test_an_asynchronous_client_awaits_outcomes(start):
    async def main(url):
        async with ms.AsyncClient(url) as client:
            deliveries = await asyncio.gather(*(client.send("payment", payment(i)) for i in range(50)))
            outcomes = [(await delivery)[0].status for delivery in deliveries]
            await client.flush(20)
            return outcomes, client.totals.accepted

    with start() as running:
        assert asyncio.run(main(running.url)) == (["accepted"] * 50, 50)
