"""Doors that ask for keys, and doors that speak TLS, as users open them."""

import asyncio
import contextlib
import json
import os

import httpx
import pytest
import uvloop

from mainspring.cli.app import run
from mainspring.core.clock import WallClock
from mainspring.core.config import load_config
from mainspring.core.errors import RefusedError
from mainspring.core.run import read_door, read_public
from mainspring.events.intake import Intake
from mainspring.serving.gateway import Gateway
from mainspring.serving.siblings import Seat

from rides import ride  # isort: skip

ROW = ride(asked_at=...)  # decisions of commands are stamped by the wall's clock, so the doors go by it too


def reconfigure(world, old, new):
    path = world.root / "mainspring.toml"
    path.write_text(path.read_text().replace(old, new))
    world.config = load_config(world.root)


@pytest.fixture
def keys(world, capsys):
    """Makes a key with the command that users have; its text."""

    def make(name, *options):
        capsys.readouterr()
        assert run(["keys", "create", name, *options, "-C", str(world.root), "--json"]) == 0
        return json.loads(capsys.readouterr().out)["key"]

    return make


@contextlib.asynccontextmanager
async def opened(world):
    """Gateway and intake on this loop."""
    intake = Intake(world.config, world.project, WallClock())
    await intake.start()
    gateway = Gateway(world.config, world.project, WallClock())
    await gateway.start()
    try:
        yield gateway, intake
    finally:
        await gateway.stop(5)
        await intake.stop()


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def test_a_door_that_asks_for_keys_lets_in_those_who_have_one_for_it(world, keys):
    reconfigure(world, "[gateway]\n", "[gateway]\nkeys = true\n")
    reconfigure(world, "[intake]\n", "[intake]\nkeys = true\n")
    shop = keys("shop", "--scope", "predict:late_ride")
    feed = keys("feed", "--scope", "events:done", "--per-second", "0.001", "--burst", "2")
    eyes = keys("eyes", "--scope", "read")
    world.live()
    done = {"ride_id": "r9", "driver": "bob", "late_min": 3.0, "done_at": "2026-03-01T11:00:00Z"}

    async def story():
        async with opened(world) as (gateway, intake), httpx.AsyncClient() as client:

            async def ask(method, url, key=None, body=None):
                return await client.request(method, url, headers=bearer(key) if key else {}, json=body)

            predict, events = f"{gateway.url}/predict/late_ride", f"{intake.url}/events/done"
            refused = await ask("POST", predict, None, ROW)
            assert (refused.status_code, refused.json()["code"]) == (401, "MS-S012")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert (await ask("POST", predict, shop, ROW)).status_code == 200
            assert (await ask("POST", predict, feed, ROW)).status_code == 403
            assert (await ask("POST", f"{gateway.url}/v2/models/late_ride/infer", feed, {})).status_code == 403
            assert (await ask("GET", f"{gateway.url}/v2/models/late_ride", shop)).status_code == 200
            assert (await ask("GET", f"{gateway.url}/metrics", shop)).status_code == 403
            assert (await ask("GET", f"{gateway.url}/ready")).status_code == 200
            assert (await ask("GET", f"{gateway.url}/v2/health/live")).status_code == 200
            counted = (await ask("GET", f"{gateway.url}/metrics", eyes)).text
            assert "mainspring_unauthorized_total 1" in counted
            assert counted.count('outcome="allowed"} 2\n') == 1

            assert (await ask("POST", events, shop, done)).status_code == 403
            large = [done | {"driver": "x" * 1_000}] * 9_000  # is taken piece by piece, and only with a key
            assert (await ask("POST", events, shop, large)).status_code == 403
            assert (await ask("POST", f"{intake.url}/quarantine/done/replay", eyes, {})).status_code == 403
            assert (await ask("GET", f"{intake.url}/quarantine", eyes)).status_code == 200
            assert (await ask("POST", events, feed, done | {"ride_id": "d1"})).status_code == 200
            assert (await ask("POST", events, feed, done | {"late_min": "late"})).status_code == 422
            held = (await ask("GET", f"{intake.url}/quarantine", eyes)).json()["records"]
            assert [(one["path"], one["sender"].rpartition(" key ")[2]) for one in held] == [("$.late_min", "feed")]
            limited = await ask("POST", events, feed, done | {"ride_id": "d3"})
            assert (limited.status_code, limited.json()["code"]) == (429, "MS-S014")
            assert 900 <= int(limited.headers["retry-after"]) <= 1_000

            world.catalog.project([(world.catalog.projected_offset() + 1, revoked(shop))])
            while (await ask("POST", predict, shop, ROW)).status_code != 401:
                pass
            while not gateway.log.sent:  # the gateway's log has its own way in
                await asyncio.sleep(0.01)

    uvloop.run(asyncio.wait_for(story(), 60))
    assert shop not in (world.config.home / "catalog.db").read_bytes().decode("latin-1")


def test_the_openapi_of_a_door_with_keys_says_who_may_ask_and_how_others_are_refused_and_so_it_is(world, keys):
    reconfigure(world, "[gateway]\n", "[gateway]\nkeys = true\n")
    reconfigure(world, "[intake]\n", "[intake]\nkeys = true\n")
    eyes = keys("eyes", "--scope", "read")
    spent = keys("spent", "--scope", "admin", "--per-second", "0.001", "--burst", "1")
    world.live()
    lost = bearer("ms_a_b")
    paths = {}

    async def story():
        async with opened(world) as doors, httpx.AsyncClient() as client:
            for name, door in zip(("gateway", "intake"), doors, strict=True):
                found = (await client.get(f"{door.url}/openapi.json", headers=bearer(eyes))).json()
                assert found["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
                await client.get(f"{door.url}/metrics", headers=bearer(spent))
                for path, methods in found["paths"].items():
                    for method, operation in methods.items():
                        scopes = [scope for one in operation["security"] for scope in one["key"]]
                        paths[f"{name} {path}"] = scopes
                        seen = {}
                        for who, headers in (
                            ("nobody", {}),
                            ("lost", lost),
                            ("eyes", bearer(eyes)),
                            ("spent", bearer(spent)),
                        ):
                            answer = await client.request(method, door.url + path, headers=headers)
                            seen[who] = answer.status_code
                            assert str(answer.status_code) in operation["responses"], (path, who, answer.text)
                        assert (
                            (seen["nobody"] == 401) == (seen["lost"] == 401) == (seen["spent"] == 429) == bool(scopes)
                        )
                        assert (seen["eyes"] == 403) == (bool(scopes) and "read" not in scopes)

    uvloop.run(asyncio.wait_for(story(), 60))
    assert paths["gateway /predict/late_ride"] == ["predict:late_ride"]
    assert paths["gateway /v2/models/late_ride"] == ["read", "predict:late_ride"]
    assert paths["gateway /ready"] == paths["gateway /v2/health/live"] == paths["intake /health"] == []
    assert paths["intake /events/done"] == ["events:done"]
    assert paths["intake /quarantine/done/replay"] == ["admin"]


def test_the_body_of_a_stranger_is_refused_at_its_head_and_not_kept(world, keys):
    reconfigure(world, "[gateway]\n", "[gateway]\nkeys = true\n")
    reconfigure(world, "[intake]\n", "[intake]\nkeys = true\n")
    shop = keys("shop", "--scope", "predict:late_ride")
    world.live()

    async def begun(url, *head, body=b""):
        """The status of a request whose body never ends."""
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = ("POST /predict/late_ride HTTP/1.1", f"Host: 127.0.0.1:{port}", *head, "", "")
        writer.write("\r\n".join(lines).encode() + body)
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return status

    async def story():
        async with opened(world) as (gateway, intake), httpx.AsyncClient() as client:
            for url in (gateway.url, intake.url):
                assert await begun(url, "Content-Length: 8000000") == 401
                assert await begun(url, "Content-Length: 8000000", "Authorization: Bearer ms_a_b") == 401
                chunks = b"4000\r\n" + b" " * 0x4000 + b"\r\n1\r\n"
                assert await begun(url, "Transfer-Encoding: chunked", body=chunks + b" \r\n") == 401
            large = b" " * 100_000 + json.dumps(ride(asked_at=...)).encode()
            sent = await client.post(f"{gateway.url}/predict/late_ride", content=large, headers=bearer(shop))
            assert sent.status_code == 200
            assert (await client.post(f"{gateway.url}/predict/late_ride", content=large)).status_code == 401

    uvloop.run(asyncio.wait_for(story(), 60))


def revoked(key):
    """The decision that revokes a key."""
    return {"decision_id": "gone", "decided_at": 9, "kind": "key_revoke", "subject": key.split("_")[1], "actor": "test"}


def test_keys_are_listed_and_revoked_by_name_and_a_name_is_used_once(world, keys, capsys):
    keys("shop", "--scope", "predict:*")
    keys("feed", "--scope", "events:done", "--per-second", "2.5")

    def ask(*argv):
        capsys.readouterr()
        code = run(["keys", *argv, "-C", str(world.root), "--json"])
        said = capsys.readouterr()
        return code, said.out + said.err

    assert ask("revoke", "shop", "--reason", "the shop is closed")[0] == 0
    code, said = ask("list", "--all")
    assert code == 0
    shop, feed = json.loads(said)
    assert (shop["name"], shop["scopes"], shop["per_second"]) == ("shop", ["predict:*"], None)
    assert (feed["name"], feed["per_second"], feed["burst"], feed["revoked_at"]) == ("feed", 2.5, 2, None)
    assert shop["revoked_at"] is not None
    assert [one["name"] for one in json.loads(ask("list")[1])] == ["feed"]
    for argv, code, error in (
        (("revoke", "shop"), 6, "MS-C094"),
        (("create", "feed", "--scope", "read"), 5, "MS-C095"),
        (("create", "more", "--scope", "everything"), 3, "MS-C096"),
    ):
        found = ask(*argv)
        assert found[0] == code
        assert error in found[1]
    keys("shop", "--scope", "read")  # the name of a revoked key is free again


def test_a_door_that_others_reach_is_not_opened_without_a_key_and_asks_for_one_with_it(world, keys):
    reconfigure(world, "[gateway]\n", '[gateway]\nhost = "0.0.0.0"\n')

    async def refused():
        gateway = Gateway(world.config, world.project, WallClock())
        try:
            with pytest.raises(RefusedError, match=r"MS-S001: refusing to listen on '0\.0\.0\.0'"):
                await gateway.start()
        finally:
            await gateway.stop(1)

    uvloop.run(refused())
    shop = keys("shop", "--scope", "predict:*")
    world.live()

    async def story():
        async with opened(world) as (gateway, _), httpx.AsyncClient() as client:
            predict = gateway.url.replace("0.0.0.0", "127.0.0.1") + "/predict/late_ride"
            assert (await client.post(predict, json=ROW)).status_code == 401
            named = bearer(shop) | {"Host": "ml.example.com"}
            assert (await client.post(predict, json=ROW, headers=named)).status_code == 200
            inner = read_door(world.config.run, "gateway")
            assert inner.startswith("http://127.0.0.1:")
            assert read_public(world.config.run, "gateway") == gateway.url != inner

    uvloop.run(asyncio.wait_for(story(), 60))


def test_a_door_that_is_open_without_tls_is_named_once_by_the_first_of_its_workers(world, keys, caplog):
    reconfigure(world, "[gateway]\n", '[gateway]\nhost = "0.0.0.0"\n')
    keys("shop", "--scope", "predict:*")

    async def story():
        for number in (1, 2):
            gateway = Gateway(world.config, world.project, WallClock(), seat=Seat(os.getpid(), number))
            try:
                await gateway.start()
            finally:
                await gateway.stop(1)

    uvloop.run(story())
    said = [record.getMessage() for record in caplog.records if "without TLS" in record.getMessage()]
    assert said == [
        "the gateway, on 0.0.0.0, is open to others without TLS: keys and data can be read on the way",
    ]


@pytest.mark.parametrize("name", ["a b", "", "Shop", "a-b", "a\nb", "x" * 101])
def test_a_keys_name_is_a_name_as_any_other(world, capsys, name):
    root = ["-C", str(world.root), "--json"]
    assert run(["keys", "create", name, "--scope", "read", *root]) == 3
    said = json.loads(capsys.readouterr().err)
    assert (said["code"], "is not a name of a key" in said["error"]) == ("MS-C001", True)
    assert run(["keys", "list", "--all", *root]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--scope", "read", "--burst", "5"], "MS-C117", "--burst needs --per-second"),
        (["--scope", "read", "--per-second", "1e308"], "MS-C117", "at most 1,000,000"),
        (["--scope", "read", "--per-second", "nan"], "MS-C050", "nan"),
        (["--scope", "read", "--per-second", "1e-300"], "MS-C117", "more than three years"),
        (["--scope", "read", "--per-second", "1", "--burst", "1" + "0" * 30], "MS-C117", "more than three years"),
        (["--scope", "predict:late_rid"], "MS-C051", "did you mean 'late_ride'?"),
        (["--scope", "events:dona"], "MS-C052", "did you mean 'done'?"),
    ],
)
def test_a_key_that_would_not_be_what_it_says_is_refused_before_it_is_made(world, capsys, options, code, words):
    root = ["-C", str(world.root), "--json"]
    assert run(["keys", "create", "b", *options, *root]) != 0
    said = json.loads(capsys.readouterr().err)
    assert said["code"] == code
    assert words in f"{said['error']} {said['hint']}"
    assert run(["keys", "list", "--all", *root]) == 0
    assert json.loads(capsys.readouterr().out) == []
