"""Doors that speak TLS, and those that ask their clients for a certificate."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl

import grpc
import httpx
import msgspec
import pytest
import uvloop

from mainspring.core.clock import WallClock
from mainspring.core.config import load_config
from mainspring.core.errors import ConfigError
from mainspring.core.http import Access, Limits, Response, serve
from mainspring.events.intake import Intake
from mainspring.serving.gateway import Gateway
from mainspring.serving.grpc_messages import MESSAGES, SERVICE

from certificates import Authority, trusting  # isort: skip
from raw_http import answer, cl, client, get  # isort: skip
from rides import ride  # isort: skip

ROW = ride(asked_at=...)


@pytest.fixture
def authority(tmp_path):
    """Signs for the doors."""
    return Authority(tmp_path, "doors")


def secured(world, authority, client_ca=""):
    """The world's configuration with TLS and gRPC."""
    cert, key = authority.sign("localhost", client=False)
    path = world.root / "mainspring.toml"
    section = f'[tls]\ncert = "{cert}"\nkey = "{key}"\n' + (f'client_ca = "{client_ca}"\n' if client_ca else "")
    path.write_text(path.read_text() + section)
    config = load_config(world.root)
    return msgspec.structs.replace(config, gateway=msgspec.structs.replace(config.gateway, grpc=0))


def tell(config, world, story):
    """Tell ``story(gateway, intake)`` to both doors; what is predicted reaches the log by the inner ones."""

    async def main():
        intake = Intake(config, world.project, WallClock())
        await intake.start()
        gateway = Gateway(config, world.project, WallClock())
        await gateway.start()
        try:
            await story(gateway, intake)
            while not gateway.log.sent:
                await asyncio.sleep(0.01)
        finally:
            await gateway.stop(5)
            await intake.stop()

    uvloop.run(asyncio.wait_for(main(), 120))


def named(url):
    return url.replace("127.0.0.1", "localhost")


def read(path):
    return path.read_bytes()


async def is_live(gateway, authority, identity=None):
    """Whether gRPC answers a client."""
    cert, key = (None, None) if identity is None else (read(path) for path in identity)
    credentials = grpc.ssl_channel_credentials(read(authority.cert), key, cert)
    async with grpc.aio.secure_channel(f"localhost:{gateway.grpc_url.rpartition(':')[2]}", credentials) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/ServerLive", response_deserializer=MESSAGES["ServerLiveResponse"].FromString
        )
        return (await call(b"", timeout=30)).live


def test_with_a_certificate_both_doors_and_grpc_speak_tls_and_the_projects_own_processes_still_find_them(
    world, authority
):
    world.live()

    async def story(gateway, intake):
        doors = [named(url) for url in (gateway.url, intake.url)]
        assert gateway.grpc_url.startswith("grpcs://")
        assert all(url.startswith("https://localhost:") for url in doors)
        async with httpx.AsyncClient(verify=trusting(authority)) as client:
            assert (await client.post(f"{doors[0]}/predict/late_ride", json=ROW)).status_code == 200
            assert (await client.get(f"{doors[1]}/health")).json()["status"] == "ok"
            with pytest.raises(httpx.HTTPError):
                await client.get(doors[0].replace("https", "http") + "/ready")
        assert await is_live(gateway, authority)

    tell(secured(world, authority), world, story)


def test_with_client_ca_only_those_whom_it_has_signed_come_in_by_http_and_by_grpc(world, authority, tmp_path):
    world.live()
    people = Authority(tmp_path, "people")
    (tmp_path / "elsewhere").mkdir()
    impostor = Authority(tmp_path / "elsewhere", "people")  # the same name, another key
    ann = people.sign("ann")
    strangers = {
        "nobody": None,
        "signed by an authority of the same name": impostor.sign("ann"),
        "signed by the doors' own authority": authority.sign("ann"),
        "no longer valid": people.sign("old", age=dt.timedelta(days=3)),
        "not yet valid": people.sign("new", age=dt.timedelta(days=-3)),
        "a server's": people.sign("server", client=False),
    }

    async def story(gateway, intake):
        predict, health = f"{named(gateway.url)}/predict/late_ride", f"{named(intake.url)}/health"
        for who, identity in strangers.items():
            async with httpx.AsyncClient(verify=trusting(authority, identity)) as client:
                for url in (predict, health):
                    with pytest.raises(httpx.HTTPError):
                        pytest.fail(f"{who} was answered {await client.post(url, json=ROW)}")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await is_live(gateway, authority, identity)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE, who
        assert not gateway.lanes["late_ride"].metrics.answers
        async with httpx.AsyncClient(verify=trusting(authority, ann)) as client:
            assert (await client.post(predict, json=ROW)).status_code == 200
            assert (await client.get(health)).json()["status"] == "ok"
        assert await is_live(gateway, authority, ann)

    tell(secured(world, authority, people.cert), world, story)


@pytest.mark.parametrize("broken", ["cert", "key", "client_ca"])
def test_a_certificate_that_cannot_be_used_is_said_so(world, authority, broken):
    config = secured(world, authority, authority.cert)
    (world.root / "broken.pem").write_text("no certificate")
    config = msgspec.structs.replace(config, tls=msgspec.structs.replace(config.tls, **{broken: "broken.pem"}))
    with pytest.raises(ConfigError, match="MS-C097"):
        Gateway(config, world.project, WallClock())


# --- the protocol within -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def door(authority, limits):
    """A bare door that speaks TLS, and what its clients need to speak to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("localhost", client=False))
    server = await serve(lambda _: Response(200, b"ok"), Access(tls=context), 0, limits)
    try:
        yield server
    finally:
        await server.drain(1)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_what_is_refused_within_tls_is_told_why_and_closed(authority):
    limits = Limits(max_body_bytes=1_000, slow_s=30)

    async def story():
        async with door(authority, limits) as server:
            for raw, status in (
                (b"hello\r\n\r\n" + get(b"/next"), 400),
                (cl(b"x" * 2_000), 413),
                (get(b"/", b"1.0", b""), 200),
                (get(b"/", headers=b"Host: localhost\r\nConnection: close\r\n"), 200),
            ):
                reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting(authority))
                writer.write(raw)
                assert (await answer(reader))[0] == status
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await writer.wait_closed()
            await until(lambda: not server.connections)

    uvloop.run(asyncio.wait_for(story(), 60))


def test_who_does_not_finish_shaking_hands_is_dropped_and_holds_nobody_up(authority):
    async def story():
        async with door(authority, Limits(max_body_bytes=1_000, slow_s=0.3)) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01")  # and no more
            other = socket.create_connection(("127.0.0.1", server.port))
            sound, sender = await asyncio.open_connection("localhost", server.port, ssl=trusting(authority))
            sender.write(get(b"/"))
            assert (await answer(sound))[0] == 200
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            other.close()
            sender.close()

    uvloop.run(asyncio.wait_for(story(), 60))


def test_those_that_shake_hands_take_the_places_of_others_and_one_more_is_hung_up_on(authority):
    async def story():
        async with door(authority, Limits(max_body_bytes=1_000, max_connections=4, slow_s=30, spare_s=30)) as server:
            async with contextlib.AsyncExitStack() as stack:
                sound, sender = await asyncio.open_connection("localhost", server.port, ssl=trusting(authority))
                for _ in range(3):
                    _, silent = await stack.enter_async_context(client(server.port))
                    silent.write(b"\x16\x03\x01")  # and no more
                reader, _ = await stack.enter_async_context(client(server.port))
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                sender.write(get(b"/"))
                assert (await answer(sound))[0] == 200
                assert server.refusals == {503: 1}
                sender.close()
            await until(lambda: not server.connections and not server._listener.arriving)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await sender.wait_closed()
            for _ in range(4):  # whoever has gone in the middle of a handshake takes no place
                sound, sender = await asyncio.open_connection("localhost", server.port, ssl=trusting(authority))
                sender.write(get(b"/"))
                assert (await answer(sound))[0] == 200
                sender.close()

    uvloop.run(asyncio.wait_for(story(), 60))


def test_who_has_been_shaking_hands_for_longest_makes_room_before_those_who_are_idle(authority):
    async def story():
        limits = Limits(max_body_bytes=1_000, max_connections=3, slow_s=30, spare_s=0)
        async with door(authority, limits) as server, contextlib.AsyncExitStack() as stack:
            guests = []

            async def come():
                now_s = asyncio.get_running_loop().time()
                await until(lambda: asyncio.get_running_loop().time() > now_s)  # whoever is there was there before
                where = {"host": "localhost", "port": server.port, "ssl": trusting(authority)}
                reader, writer = await asyncio.open_connection(**where)
                stack.callback(writer.close)
                writer.write(get(b"/"))
                assert (await answer(reader))[0] == 200
                guests.append(reader)

            await come()
            slow = []
            for n in (1, 2):
                slow.append(await stack.enter_async_context(client(server.port)))  # and no word of a handshake
                await until(lambda n=n: server._listener.arriving == n)
            await come()
            assert await slow[0][0].read() == b""
            await come()
            assert await slow[1][0].read() == b""
            assert not guests[0].at_eof()
            await come()
            with contextlib.suppress(ConnectionError):
                assert await guests[0].read() == b""
            assert len(server.connections) == 3
            assert not server.refusals

    uvloop.run(asyncio.wait_for(story(), 60))
