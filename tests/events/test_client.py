"""The intake's client: it comes back after a closed connection, and says what it was told."""

import socket

import lmdb
import msgspec
import pytest

from mainspring.core.errors import BackPressureError, UnavailableError
from mainspring.events.client import IntakeClient

FLIGHT = {"flight_id": "a", "carrier": "UA", "arrived_at": "2013-03-01T11:00:00Z"}


def test_nobody_there_is_unavailable_with_the_command_that_helps():
    with IntakeClient("http://127.0.0.1:9") as client, pytest.raises(UnavailableError, match="mainspring up") as said:
        client.post_events("arrived", [FLIGHT])
    assert said.value.code == "MS-E300"


def test_a_request_that_was_sent_and_not_answered_may_have_been_carried_out():
    with socket.create_server(("127.0.0.1", 0)) as busy:  # who connects waits in its backlog
        url = f"http://127.0.0.1:{busy.getsockname()[1]}"
        with IntakeClient(url, timeout_s=0.05) as client:
            with pytest.raises(UnavailableError, match="MS-E315: the intake was asked and did not answer") as said:
                client.post_events("arrived", [FLIGHT])
            with pytest.raises(UnavailableError, match="MS-E315") as read:
                client.get("/health")
    assert "timed out; what it was asked for may have been carried out, or may be yet" in said.value.why
    assert "mainspring status" in said.value.hint
    assert "mainspring up" not in str(said.value)
    assert "carried out" not in read.value.why


def test_a_connection_that_was_closed_meanwhile_is_opened_again(start, config):
    with start() as first:
        client = IntakeClient(first.url)
        client.post_events("arrived", [FLIGHT])
        port = int(first.url.rpartition(":")[2])
    again = _at_port(config, port)
    with start(again) as second:
        assert second.url == first.url
        assert client.post_events("arrived", [FLIGHT])["duplicate"] == 1
        client.close()
        assert client.post_events("arrived", [FLIGHT])["duplicate"] == 1
        client.close()


def test_a_log_that_cannot_be_written_is_503_and_unhealthy_until_it_can(running, monkeypatch, capsys):
    client = running.client()

    def broken(*_):
        raise lmdb.DiskError("mdb_txn_commit: Input/output error")

    monkeypatch.setattr("mainspring.events.log.Log.append_all", broken)
    with pytest.raises(UnavailableError, match="MS-E307") as caught:
        client.post_events("arrived", [FLIGHT])
    assert not isinstance(caught.value, BackPressureError)
    assert "Input/output error" not in str(caught.value)
    with pytest.raises(UnavailableError):
        client.get("/health")
    monkeypatch.undo()
    assert client.post_events("arrived", [FLIGHT])["accepted"] == 1
    assert client.get("/health")["status"] == "ok"
    assert "Input/output error" in capsys.readouterr().err


def _at_port(config, port):
    return msgspec.structs.replace(config, intake=msgspec.structs.replace(config.intake, port=port))
