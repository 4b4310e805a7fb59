"""Faults that other model servers have, each with the test that fails on a server that has it.

A client that leaves inside a batch and hangs its neighbours: ``test_gateway``, ``test_batcher`` (leaves, cancelled).
A queue without a bound, which waits for ever: ``test_gateway`` (a full queue sheds, a deadline that passes).
A batch size limit that is ignored: ``test_batcher`` (no batch is over its limit).
A canary weight that is silently ignored: ``test_router`` (shares are as declared), ``test_routes`` (in a ramp).
Here: a latency target that becomes a shedding threshold, validation errors that leak schema and data, latency that
grows with the number of columns, ten polls a millisecond when idle.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from mainspring.serving.breaker import MIN_RUNS

from rides import World, logged, metric, ride  # isort: skip

# --- a latency target is a target ------------------------------------------------------------------------------------

_BUDGET = ', latency=ms.Latency(p50="1us", p99="1us")'  # no model is as quick as that


def budget(world, chain=""):
    world.redefine('["distance_km", "passengers"])', f'["distance_km", "passengers"]{chain}{_BUDGET})')


def test_a_latency_target_that_is_never_met_sheds_nobody(world):
    budget(world)
    version = world.live("minutes")

    async def story(gateway, client):
        for i in range(200):  # a burst, then one after the other
            client.send("POST", "/predict/minutes", json.dumps(ride(i)).encode())
        answers = [await client.receive() for _ in range(200)]
        answers += [await client.predict(ride(i), "minutes") for i in range(3 * MIN_RUNS)]
        assert {(a.status, a.json["variant"], a.json["model_version"]) for a in answers} == {(200, "champion", version)}
        assert not gateway.lanes["minutes"].metrics.rejected

    world.run(story)


def test_what_a_latency_target_does_to_an_answer_is_said_in_the_answer(world):
    budget(world, ", otherwise=ms.otherwise(value=12.5)")
    world.live("minutes")

    async def story(gateway, client):
        answers = [(await client.predict(ride(i), "minutes")).json for i in range(MIN_RUNS + 3)]
        assert [a["variant"] for a in answers[:MIN_RUNS]] == ["champion"] * MIN_RUNS
        assert {(a["variant"], a["fallback"], a["reason"]) for a in answers[MIN_RUNS:]} == {
            ("fallback", "value", "breaker")
        }
        text = (await client.get("/metrics")).body.decode()
        assert metric(text, "mainspring_breaker_open", model="minutes", variant="champion") == 1

    assert [row["error"] for row in logged(world, story)] == [None] * MIN_RUNS + ["breaker"] * 3


# --- errors say what is wrong and no more ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "at"),
    [
        ({"driver": 4111}, "driver"),
        ({"zone": "4111"}, "zone"),
        ({"distance_km": "4111"}, "distance_km"),
        ({"passengers": "4111"}, "passengers"),
        ({"asked_at": "4111"}, "asked_at"),
        ({"ride_id": None}, "ride_id"),
    ],
)
@pytest.mark.parametrize("is_list", [False, True])
def test_an_error_names_the_field_at_fault_and_nothing_of_other_fields_rows_or_our_insides(world, wrong, at, is_list):
    world.fold(("private-driver", 3.0, 5))
    world.live()
    good = ride(driver="private-driver", ride_id="private-ride", distance_km=4111.25)
    fields = {"driver", "zone", "distance_km", "passengers", "asked_at", "ride_id"} - {at}

    async def story(gateway, client):
        answer = await client.predict([good, good | wrong] if is_list else good | wrong)
        said = json.dumps(answer.json[1] if is_list else answer.json)
        assert at in said
        for hidden in ("4111.25", "private", str(world.root), "Traceback", ".py", *fields):
            assert hidden not in said, said

    world.run(story)


# --- the number of columns --------------------------------------------------------------------------------------------


def calls_of_a_request(tmp_path_factory, columns):
    """How many calls the event loop's thread makes for one request, of Python's functions and of others."""
    with World(tmp_path_factory.mktemp(f"columns{columns}")) as world:
        names = [f"c{i}" for i in range(columns)]
        features = "\n".join(f'    m{i} = ms.mean(col("late_min") + {i}, window="1h")' for i in range(columns))
        world.redefine(
            "    passengers: int | None\n", "    passengers: int | None\n" + "".join(f"    {n}: float\n" for n in names)
        )
        world.redefine('    rides_24h = ms.count(window="24h")', f'    rides_24h = ms.count(window="24h")\n{features}')
        world.redefine('[Driver, "distance_km"', f'[Driver, *{names!r}, "distance_km"')
        world.live()
        body = json.dumps(ride(**dict.fromkeys(names, 1.5))).encode()
        counted = 0

        def count(frame, event, argument):
            nonlocal counted
            counted += event in ("call", "c_call")

        async def story(gateway, client):
            nonlocal counted
            for _ in range(20):
                assert (await client.predict(body)).status == 200
            found = []
            for _ in range(5):
                counted = 0
                sys.setprofile(count)
                try:
                    await client.predict(body)
                finally:
                    sys.setprofile(None)
                found.append(counted)
            return min(found)  # some requests share their ticks with timers

        return world.run(story)


def test_a_request_of_two_hundred_columns_makes_no_more_calls_than_one_of_five(tmp_path_factory):
    few, many = (calls_of_a_request(tmp_path_factory, columns) for columns in (5, 200))
    assert many < few + 50, (few, many)


# --- idle ------------------------------------------------------------------------------------------------------------


def wakeups():
    """How often the threads of this process have gone to sleep, as Linux counts it."""
    found = 0
    for status in Path("/proc/self/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        found += int(lines["voluntary_ctxt_switches"])
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts what Linux counts")
def test_an_idle_gateway_wakes_a_few_times_a_second(world):
    world.live()

    async def story(gateway, client):
        assert (await client.predict(ride())).status == 200
        (server,) = gateway._servers
        before, started, date, swept = wakeups(), asyncio.get_running_loop().time(), server.date, 0
        while swept < 3:  # the door looks after its connections once a second
            await asyncio.sleep(0.2)
            swept, date = swept + (server.date != date), server.date
        took_s = asyncio.get_running_loop().time() - started
        assert (wakeups() - before) / took_s < 200  # where ten polls a millisecond are 10,000

    world.run(story, intake=True)
