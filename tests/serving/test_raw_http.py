"""Both doors on the raw protocol: what a client hides behind a refused request reaches neither model nor log."""

import contextlib
import json

from raw_http import REFUSED, TAKEN, cl, exchange  # isort: skip
from rides import ride  # isort: skip

REFUSED_HERE = {name: one for name, one in REFUSED.items() if one[0] != 431}  # whose limit is larger here


def test_what_hides_behind_a_refused_request_reaches_neither_model_nor_log(world):
    world.live()
    done = {"ride_id": "r9", "driver": "bob", "late_min": 3.0, "done_at": "2026-03-01T11:00:00Z"}
    hidden_ride = cl(json.dumps(ride()).encode(), b"/predict/late_ride")
    hidden_event = cl(json.dumps(done).encode(), b"/events/done")

    async def story(gateway, client):
        async with contextlib.AsyncExitStack() as stack:
            intake = await world.start_intake(stack)
            for port, hidden in ((client.port, hidden_ride), (int(intake.url.rpartition(":")[2]), hidden_event)):
                for name, (status, raw) in REFUSED_HERE.items():
                    found = await exchange(port, [raw + hidden])
                    assert [one[0] for one in found] == [status], name
                for name, (raw, _) in TAKEN.items():
                    found = await exchange(port, [raw + hidden])
                    assert (len(found), found[1][0]) == (2, 200), name
            lane = gateway.lanes["late_ride"]
            assert lane.metrics.answers == len(TAKEN)

    world.run(story)
    assert [row["ride_id"] for row in world.logged("done")] == ["r9"]
