"""Faults while clients ask all the time: failed requests are counted and bounded, and nobody waits for ever."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from mainspring.core.run import internal_token, read_door
from mainspring.features import OnlineStore

from rides import Client, World, metric, ride, until  # isort: skip
from test_workers import pids, workers  # isort: skip

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))

import crash_system

CLIENTS = 4
DEADLINE_MS = 30_000


@contextlib.asynccontextmanager
async def steady(url):
    """Clients that ask one after another; gives the list of what they are answered."""
    done, answers = False, []

    async def load():
        async with Client(url) as one:
            while not done:
                answer = await one.predict(ride(ride_id=f"u{len(answers)}", asked_at=...), X_Deadline_Ms=DEADLINE_MS)
                answers.append((answer.status, answer.json))

    loaders = [asyncio.ensure_future(load()) for _ in range(CLIENTS)]
    try:
        yield answers
    finally:
        done = True
        await asyncio.gather(*loaders)


async def more(answers, count=20):
    """Until so many further requests are answered."""
    had = len(answers)
    await until(lambda: len(answers) >= had + count)


@pytest.mark.slow
def test_a_hundred_versions_are_swapped_and_no_request_fails(world):
    versions = [world.live(), world.train(seed=2)]
    token = {"Authorization": f"Bearer {internal_token(world.config.run)}"}

    async def story(gateway, client):
        async with steady(gateway.url) as answers:
            for i in range(100):
                world.decide("release", version=versions[(i + 1) % 2])
                world.decide("promote")
                told = await client.ask("POST", "/internal/reload", **token)
                assert told.json == {"generation": world.catalog.generation(), "problems": []}
                assert gateway.lanes["late_ride"].served.champion.version == versions[(i + 1) % 2]
                await more(answers, 2)
        assert {status for status, _ in answers} == {200}
        assert {said["model_version"] for _, said in answers} == set(versions)
        assert not any("fallback" in said for _, said in answers)

    world.run(story, seconds=300)


def test_a_store_that_fails_makes_every_answer_say_so_and_none_fail(world):
    world.redefine('.alias("place")])', '.alias("place")], otherwise=ms.otherwise(value=0.25))')
    version = world.live()

    async def story(gateway, client):
        world.fold(("ann", 4.0, 10))
        async with steady(gateway.url) as answers:
            await more(answers)
            gateway._store.env.close()
            since = len(answers) + CLIENTS  # what was on its way may have read before
            await more(answers)
        assert {status for status, _ in answers} == {200}
        before, after = answers[: since - CLIENTS], answers[since:]
        assert {said["model_version"] for _, said in before} == {version}
        told = {(said["prediction"], said["fallback"], said["reason"]) for _, said in after}
        assert told == {(0.25, "value", "features")}
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_fallbacks_total", to="value", reason="features") >= len(after)

    world.run(story)


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Leave no byte on the disk; the file that took them."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4_096))
    return filler


@pytest.mark.crash
@pytest.mark.parametrize("spare", [0, 1 << 20], ids=["really full", "nearly full"])
def test_with_a_full_disk_every_request_is_answered_and_what_the_log_loses_is_counted(tmp_path, spare):
    with small_disk(tmp_path / "disk", "24m") as disk, World(make(disk / "rides")) as world:
        settings = world.root / "mainspring.toml"
        settings.write_text(settings.read_text() + f"disk_free_bytes = {spare}\n")
        world.reload()
        world.live()
        answered = []

        async def story(gateway, client):
            async with steady(gateway.url) as answers:
                await more(answers)
                await until(lambda: gateway.log.sent)
                filler = fill(disk)
                await until(lambda: gateway.log.is_away or gateway.log.dropped)
                await more(answers, 200)
                health = (await client.get("/health")).json
                assert health["status"] == "degraded"
                filler.unlink()
                await until(lambda: not gateway.log.is_away)  # what fails meanwhile began while the disk was full
                lost = gateway.log.dropped
                await until(lambda: not gateway.log.spooled_bytes)
                await more(answers)
            assert {status for status, _ in answers} == {200}
            assert not any("fallback" in said for _, said in answers)
            await until(lambda: gateway.log.sent + gateway.log.dropped == len(answers))
            answered.extend((gateway.log.dropped, lost, {said["prediction_id"] for _, said in answers}))

        world.run(story, intake=True)
        dropped, lost, asked = answered
        logged = [row["prediction_id"] for row in world.logged()]
        assert len(set(logged)) == len(logged) == len(asked) - dropped
        assert set(logged) <= asked
        assert dropped == lost, "nothing is lost once there is room again"


def make(folder):
    folder.mkdir()
    return folder


class Askers:
    """Threads that ask one after another, each on a connection that it keeps, and open another when it breaks."""

    HEADERS = {"X-Deadline-Ms": str(DEADLINE_MS)}  # noqa: RUF012  never changed

    def __init__(self, url):
        self.url, self.answers, self.broken = url, [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(name,)) for name in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, name):
        number = 0
        while not self._stop.is_set():
            with httpx.Client(base_url=self.url, timeout=60) as client:
                try:
                    while not self._stop.is_set():
                        number += 1
                        answer = client.post(
                            "/predict/late_ride",
                            json=ride(ride_id=f"a{name}-{number}", asked_at=...),
                            headers=self.HEADERS,
                        )
                        self.answers.append((answer.status_code, answer.json()))
                except httpx.TransportError as error:
                    self.broken.append(error)

    def more(self, count=20):
        """Until so many further requests are answered."""
        had = len(self.answers)
        crash_system.wait(lambda: len(self.answers) >= had + count, "the gateway answers")


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_a_worker_that_is_killed_breaks_no_more_than_what_its_clients_were_waiting_for(world):
    world.live()
    with workers(world) as url, Askers(url) as askers:
        askers.more()
        killed = pids(world)[1]
        os.kill(killed, signal.SIGKILL)
        askers.more()
        back = "another worker is in its place"
        crash_system.wait(lambda: pids(world).get(1) not in {None, killed}, back)
        askers.more()
    assert {status for status, _ in askers.answers} == {200}
    assert len(askers.broken) <= CLIENTS
    assert not any(isinstance(error, httpx.TimeoutException) for error in askers.broken)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_while_nobody_folds_predictions_go_on_and_features_catch_up_afterwards(world):
    world.live()
    with crash_system.started(world.root, ("intake", "gateway", "worker")) as system:
        for name in ("gateway", "intake"):
            crash_system.wait(lambda name=name: read_door(world.config.run, name), f"the {name} has a door")
        url, intake = (read_door(world.config.run, name) for name in ("gateway", "intake"))

        crash_system.wait(lambda: httpx.get(f"{url}/ready", timeout=60).status_code == 200, "the gateway is ready")

        def status():
            answer = httpx.post(f"{url}/predict/late_ride?status=1", json=ride(ride_id="s", asked_at=...), timeout=60)
            return answer.json()["status"]["driver__late_mean_1h"]

        crash_system.wait(lambda: status() == "missing", "the gateway answers from the store")
        with Askers(url) as askers:
            askers.more()
            system.signal("worker", signal.SIGKILL)
            done_at = datetime.now(UTC) - timedelta(minutes=1)
            done = {"ride_id": "d1", "driver": "ann", "late_min": 4.0, "done_at": done_at.isoformat()}
            assert httpx.post(f"{intake}/events/done", json=done, timeout=60).json()["accepted"] == 1
            askers.more()
            assert status() != "present"
            system.start("worker")
            crash_system.wait(lambda: status() == "present", "the new worker has folded what came meanwhile")
        for name in ("gateway", "worker", "intake"):
            system.signal(name, signal.SIGTERM)
    assert {status for status, _ in askers.answers} == {200}
    assert not any("fallback" in said for _, said in askers.answers)
    assert askers.broken == []


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_a_store_that_is_taken_away_and_built_anew_costs_fallbacks_and_no_request_and_real_features_come_back(world):
    world.redefine('.alias("place")])', '.alias("place")], otherwise=ms.otherwise(value=0.25))')
    version = world.live()
    state, away = world.config.state_path, world.config.state_path.with_name("away")
    world.store.close()  # the test's own eye on it
    with crash_system.started(world.root, ("intake", "gateway", "worker")) as system:
        for name in ("gateway", "intake"):
            crash_system.wait(lambda name=name: read_door(world.config.run, name), f"the {name} has a door")
        url, intake = (read_door(world.config.run, name) for name in ("gateway", "intake"))
        crash_system.wait(lambda: httpx.get(f"{url}/ready", timeout=60).status_code == 200, "the gateway is ready")
        done_at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        done = {"ride_id": "d1", "driver": "ann", "late_min": 4.0, "done_at": done_at}
        assert httpx.post(f"{intake}/events/done", json=done, timeout=60).json()["accepted"] == 1

        def is_present():
            answer = httpx.post(f"{url}/predict/late_ride?status=1", json=ride(ride_id="s", asked_at=...), timeout=60)
            return answer.json()["status"].get("driver__late_mean_1h") == "present"

        crash_system.wait(is_present, "the gateway answers with features")
        with Askers(url) as askers:
            askers.more()
            system.signal("worker", signal.SIGKILL)
            state.rename(away)
            since = len(askers.answers)
            askers.more()  # what the gateway has open is as true as before, only no newer
            assert {said["model_version"] for _, said in askers.answers[since:]} == {version}
            OnlineStore.open(state, world.config.limits.state_map_bytes, writable=True).close()
            crash_system.wait(lambda: "fallback" in askers.answers[-1][1], "the new store is read, and is empty")
            askers.more()
            system.start("worker")
            crash_system.wait(is_present, "the new worker has built the state anew")
            since = len(askers.answers) + CLIENTS
            askers.more()
            after = askers.answers[since:]
        for name in ("gateway", "worker", "intake"):
            system.signal(name, signal.SIGTERM)
    assert askers.broken == []
    assert {status for status, _ in askers.answers} == {200}  # a deadline that passed would be a 504, or its reason
    told = {(said["prediction"], said["reason"]) for _, said in askers.answers if said.get("fallback") == "value"}
    assert told == {(0.25, "features")}
    assert {(said["model_version"], said.get("fallback")) for _, said in after} == {(version, None)}
