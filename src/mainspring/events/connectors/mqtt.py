"""Messages of an MQTT broker (version 5), for sensors. Each payload is one JSON object.

At least once, and once by ids: the session is persistent, the quality of service 1, and a message is acknowledged only
when the intake has it on the disk. What was not acknowledged the broker sends again, also after it was started anew. A
message that the intake had taken when we died comes twice; its id tells. Beside its fields a row has ``$topic``,
``$topic_1`` (its first level), ``$topic_2`` … and ``$received_at``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.core.spans import parse_span
from mainspring.events.connectors.connector import WAIT_S, Arrival, Batch, Connector, Settings, Site

_log = logging.getLogger("mainspring.connect")
_CONNECT_S = 10.0
_MOST_UNACKNOWLEDGED = 65_535


class SubscriptionSettings(Settings, frozen=True, kw_only=True):
    """Settings of ``mqtt``.

    Attributes:
        url: ``mqtt://user:${MQTT_PASSWORD}@host:1883``, or ``mqtts://`` for TLS.
        topics: Topic filters, with ``+`` and ``#``.
        client_id: Name of the session at the broker; ``mainspring-NAME`` if empty. No two clients may share one.
        session: For how long the broker keeps messages while nobody is connected.
    """

    url: str
    topics: list[str]
    client_id: str = ""
    session: str = "1d"
    every: str = "0s"


class Subscription(Connector):
    """Takes messages, and acknowledges them when they are durable."""

    settings_type: ClassVar[type[Settings]] = SubscriptionSettings

    def __init__(self, settings: SubscriptionSettings, site: Site) -> None:
        self._parts = urlsplit(settings.url)
        if self._parts.scheme not in ("mqtt", "mqtts") or not self._parts.hostname:
            hint = "mqtt://user:${MQTT_PASSWORD}@host:1883"
            raise ConfigError("MS-C087", f"the url of connector {site.name} is no mqtt:// or mqtts://", hint=hint)
        if not settings.topics:
            raise ConfigError("MS-C087", f"connector {site.name} has no topics", hint='topics = ["sensors/+/reading"]')
        self._settings = settings
        self._client_id = settings.client_id or f"mainspring-{site.name}"
        self._client: Client | None = None
        self._arrived = threading.Condition()
        self._waiting: deque[tuple[int, MQTTMessage, datetime]] = deque()  # with the connection that each came by
        self._connection = 0
        self._given: list[tuple[int, MQTTMessage, datetime]] = []
        self._failed = ""
        self._is_subscribed = False

    def read(self, cursor: Any, limit: int) -> Batch:
        """Messages that are here, or that come within ``WAIT_S``; the cursor only counts them."""
        self._connect(self._client_id, is_lasting=True)
        deadline = time.monotonic() + WAIT_S
        with self._arrived:
            while not self._waiting and (left := deadline - time.monotonic()) > 0:
                self._arrived.wait(left)
            if not self._waiting and self._failed:
                raise self._unavailable(self._failed)
            # Those of an earlier connection come again by this one: only by it can they be acknowledged.
            self._waiting = deque(one for one in self._waiting if one[0] == self._connection or one[1].qos == 0)
            self._given = [self._waiting[i] for i in range(min(limit, len(self._waiting)))]
        rows = [_arrival(message, at) for _, message, at in self._given]
        return Batch(rows, (cursor or 0) + len(rows), more=bool(rows))

    def confirm(self, cursor: Any) -> None:
        """Acknowledge what the last ``read`` gave."""
        given, self._given = self._given, []
        with self._arrived:
            if self._client is None:
                return
            for one in given:
                if self._waiting and self._waiting[0] is one:
                    self._waiting.popleft()
                if one[0] == self._connection:  # a number of an older connection may be another message's by now
                    self._client.ack(one[1].mid, one[1].qos)

    def check(self) -> Sequence[Arrival]:
        """Whether the broker lets us in: by a session of its own, so that nothing is taken from the lasting one."""
        self._connect(f"{self._client_id}-check", is_lasting=False)
        deadline = time.monotonic() + WAIT_S
        with self._arrived:
            while not self._waiting and (left := deadline - time.monotonic()) > 0:
                self._arrived.wait(left)
            return [_arrival(message, at) for _, message, at in list(self._waiting)[:5]]

    def close(self) -> None:
        """Leave; the broker keeps the session and what comes meanwhile."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None

    def _connect(self, client_id: str, *, is_lasting: bool) -> None:
        if self._client is not None:
            return
        parts = self._parts
        client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=is_lasting
        )
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_subscribe, client.on_disconnect = self._on_subscribe, self._on_disconnect
        client.reconnect_delay_set(1, 30)
        if parts.username:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            client.tls_set()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = parse_span(self._settings.session) // 1_000_000 if is_lasting else 0
        properties.ReceiveMaximum = min(max(self._settings.batch, 20), _MOST_UNACKNOWLEDGED)
        port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
        try:
            client.connect(parts.hostname or "", port, keepalive=30, clean_start=not is_lasting, properties=properties)
        except OSError as error:
            raise self._unavailable(str(error)) from None
        self._client, self._failed, self._is_subscribed = client, "", False
        client.loop_start()
        deadline = time.monotonic() + _CONNECT_S
        with self._arrived:
            while not self._is_subscribed and not self._failed and (left := deadline - time.monotonic()) > 0:
                self._arrived.wait(left)
            failed = self._failed or ("" if self._is_subscribed else f"no answer within {_CONNECT_S:g} s")
        if failed:
            self.close()
            raise self._unavailable(failed)

    def _unavailable(self, why: str) -> UnavailableError:
        where = f"{self._parts.scheme}://{self._parts.hostname}:{self._parts.port or ''}"
        return UnavailableError("MS-E437", f"the broker: {why}", where=where)

    # --- in paho's thread -------------------------------------------------------------------------------------------

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._arrived:
            self._connection += 1
            self._failed = str(reason) if reason.is_failure else ""
            self._arrived.notify_all()
        if not reason.is_failure:
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            client.subscribe([(topic, options) for topic in self._settings.topics])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        with self._arrived:
            self._is_subscribed = not refused
            self._failed = f"refuses the subscription: {refused[0]}" if refused else ""
            self._arrived.notify_all()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        with self._arrived:
            self._failed = f"connection lost: {reason}" if reason.is_failure else ""

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._arrived:
            if message.qos == 0 and len(self._waiting) >= _MOST_UNACKNOWLEDGED:
                _log.warning("a message of quality 0 was dropped: more come than are brought in")
                return
            self._waiting.append((self._connection, message, datetime.now(UTC)))
            self._arrived.notify_all()


def _arrival(message: MQTTMessage, received_at: datetime) -> Arrival:
    levels = {f"$topic_{number}": level for number, level in enumerate(message.topic.split("/"), start=1)}
    fields = {"$topic": message.topic, "$received_at": received_at} | levels
    return Arrival(fields, bytes(message.payload), message.topic)
