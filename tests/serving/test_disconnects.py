"""Clients that leave, dawdle and overload: nobody notices, and nothing stays behind. bench/leaks.py is longer."""

import asyncio
import itertools
import json

from rides import ride, until  # isort: skip
from rude_clients import Crowd, neighbour  # isort: skip


def test_hundreds_of_rude_clients_harm_no_neighbour_and_leave_nothing_behind(world):
    world.live("minutes")
    numbers = itertools.count()

    def body():
        return json.dumps(ride(next(numbers))).encode()

    def large():
        return json.dumps([ride(next(numbers)) for _ in range(200)]).encode()

    async def story(gateway, client):
        expected = (await client.predict(ride(), "minutes")).json["prediction"]
        stop = asyncio.Event()
        near = [
            asyncio.ensure_future(neighbour(client.port, "/predict/minutes", body, expected, stop)) for _ in range(2)
        ]
        crowd = Crowd(client.port, "/predict/minutes", body, large, seed=1)
        await crowd.run(300)
        stop.set()
        for answers, wrong in [await one for one in near]:
            assert answers
            assert not wrong
        assert not crowd.odd
        assert len(crowd.done) == 6
        (server,) = gateway._servers
        await until(lambda: len(server.connections) == 1)  # ours
        assert not server.tasks
        lane = gateway.lanes["minutes"]
        await until(lambda: not lane.queued_rows)
        assert (await client.predict(ride(), "minutes")).json["prediction"] == expected
        assert not lane.metrics.rejected

    world.run(story)
