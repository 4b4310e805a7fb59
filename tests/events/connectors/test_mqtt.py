"""Messages of a real broker: acknowledged only when durable, also when the broker or the intake goes away."""

import json
import signal
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from mainspring.core.errors import BackPressureError, ConfigError, UnavailableError
from mainspring.events.connectors.run import pump

AT = "2026-01-02T03:04:05Z"


@contextmanager
def sender(broker):
    client = Client(CallbackAPIVersion.VERSION2)
    parts = urlsplit(broker.url)
    client.connect(parts.hostname, parts.port)
    client.loop_start()

    def send(topic, payload, **how):
        text = payload if isinstance(payload, bytes) else json.dumps(payload)
        client.publish(topic, text, **{"qos": 1} | how).wait_for_publish(10)

    try:
        yield send
    finally:
        client.disconnect()
        client.loop_stop()


def ride(ident, **more):
    return {"ride": ident, "km": 1.0, "at": AT} | more


@pytest.fixture
def sensors(feed, broker, request):
    """A connector with a session and topics of the test's own."""

    def make(**more):
        name = f"s{abs(hash(request.node.nodeid)) % 10**8}"
        table = {"kind": "mqtt", "source": "ride", "url": broker.url, "topics": [f"{name}/+/ride"], "batch": 20}
        one = feed(name=name, **table | more)
        one.topic = f"{name}/graz/ride"
        return one

    return make


def test_messages_that_come_while_nobody_is_there_wait_for_the_session(sensors, broker):
    one = sensors()
    assert one.once() == []  # the session is there now
    with sender(broker) as send:
        for i in range(50):
            send(one.topic, ride(f"r{i}"))
    assert one.once() == ["accepted"] * 50
    assert one.once() == []
    assert one.ids() == [f"r{i}" for i in range(50)]


def test_a_message_that_breaks_the_contract_is_acknowledged_and_waits_in_quarantine(sensors, broker):
    one = sensors()
    one.once()
    with sender(broker) as send:
        send(one.topic, b"no json \xff")
        send(one.topic, ride("far", km=9e9))
        send(one.topic, [1, 2])
        send(one.topic, ride("good"))
    assert one.once() == ["quarantined", "quarantined", "quarantined", "accepted"]
    assert one.once() == []
    assert [code for code, *_ in one.held()] == ["MS-E101", "MS-E103", "MS-E102"]


def test_parts_of_the_topic_may_be_columns(sensors, broker):
    one = sensors(columns={"city": "$topic_2", "at": "$received_at"}, pick=True)
    one.once()
    with sender(broker) as send:
        send(one.topic, {"ride": "a", "km": 1, "firmware": "3.1"})
    assert one.once() == ["accepted"]
    (row,) = one.records()
    assert row["city"] == "graz"
    assert abs(row["at"] - one.clock.now_us()) < 60_000_000


def test_what_was_not_durable_is_not_acknowledged_and_comes_again(sensors, broker):
    one = sensors()
    one.once()
    with sender(broker) as send:
        for i in range(30):
            send(one.topic, ride(f"r{i}"))

    class Full:
        def __init__(self, inlet):
            self._inlet = inlet
            self.calls = 0

        def position(self, name):
            return self._inlet.position(name)

        def advance(self, *step):
            self.calls += 1
            if self.calls == 2:
                raise UnavailableError("MS-E300", "gone before anything was written")
            return self._inlet.advance(*step)

    import threading

    connector = one.one.open()
    with one.inlet() as inlet, pytest.raises(UnavailableError):
        pump(connector, one.one, one.one.settings(), Full(inlet), threading.Event(), once=True)
    connector.close()
    first = len(one.ids())
    assert 0 < first < 30
    again = one.once()
    # Acknowledgements on their way when we left may be lost with the connection: then what is durable comes twice.
    assert again.count("accepted") == 30 - first
    assert set(again) <= {"accepted", "duplicate"}
    assert sorted(one.ids()) == sorted(f"r{i}" for i in range(30))


def test_back_pressure_brings_the_same_messages_later(sensors, broker):
    one = sensors()
    one.once()
    with sender(broker) as send:
        send(one.topic, ride("a"))
    connector = one.one.open()
    first = connector.read(0, 10)
    again = connector.read(0, 10)
    assert [row.raw for row in first.rows] == [row.raw for row in again.rows] != []
    connector.close()
    assert issubclass(BackPressureError, UnavailableError)
    assert one.once() == ["accepted"]


def test_a_broker_that_is_killed_and_started_again_loses_nothing(sensors, broker, until):
    import threading

    one = sensors()
    stop = threading.Event()
    seen = []

    def run():
        while not stop.is_set():
            connector = one.one.open()
            try:
                with one.inlet() as inlet:
                    pump(
                        connector,
                        one.one,
                        one.one.settings(),
                        inlet,
                        stop,
                        heard=lambda outcome: seen.extend(outcome.statuses),
                    )
            except UnavailableError:
                stop.wait(0.05)
            finally:
                connector.close()

    one.once()
    thread = threading.Thread(target=run)
    thread.start()
    try:
        with sender(broker) as send:
            for i in range(40):
                send(one.topic, ride(f"a{i}"))
        until(lambda: len(seen) >= 40)
        broker.stop(signal.SIGTERM)  # Mosquitto writes its sessions to the disk when it is told to stop
        broker.start()
        with sender(broker) as send:
            for i in range(40):
                send(one.topic, ride(f"b{i}"))
        until(lambda: seen.count("accepted") >= 80)
    finally:
        stop.set()
        thread.join()
    assert sorted(one.ids()) == sorted([f"a{i}" for i in range(40)] + [f"b{i}" for i in range(40)])


def test_check_takes_nothing_from_the_session(sensors, broker):
    one = sensors()
    one.once()
    with sender(broker) as send:
        send(one.topic, ride("a"))
    connector = one.one.open()
    assert connector.check() == []
    connector.close()
    assert one.once() == ["accepted"]


@pytest.mark.parametrize(
    ("table", "error"),
    [({"url": "http://x"}, "MS-C087"), ({"topics": []}, "MS-C087"), ({"url": "mqtt://127.0.0.1:1"}, "MS-E437")],
)
def test_what_cannot_be_is_said(sensors, table, error):
    with pytest.raises((ConfigError, UnavailableError), match=error):
        sensors(**table).once()
