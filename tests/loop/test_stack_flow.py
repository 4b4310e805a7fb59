"""The whole way of a stack, with the real processes: answers, outcomes, weights, answers by them, and back."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mainspring.catalog import Catalog
from mainspring.cli.app import run
from mainspring.core import Config, SharedClock, to_iso
from mainspring.core.run import internal_token, read_door
from mainspring.definitions import load_project
from mainspring.definitions.weights import weights_from
from mainspring.events.client import IntakeClient
from mainspring.loop.apply import apply_project
from mainspring.loop.desk import open_desk
from mainspring.loop.supervisor import Supervisor
from mainspring.loop.workshop import Workshop

pytestmark = [pytest.mark.processes, pytest.mark.slow]
HOUR = 3_600_000_000
DAY = 24 * HOUR
NOW = 19_700 * DAY
HISTORY, EACH = 600, 40
GUESS = """

@ms.model(request=Ride, label=large, task="binary_classification", features=["km"],
          rollout=ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)]), monitor=ms.Monitor(retrain=ms.every("90d")),
          otherwise=ms.otherwise(value=0.5))
def guess(train):
    import numpy as np
    y = np.random.default_rng(1).permutation(np.asarray(train.y))
    return LGBMClassifier(n_estimators=5, random_state=train.seed, verbose=-1).fit(train.X, y)


both = ms.ensemble("both", guess, tipping, how="stack")
"""


class Town:
    """Rides and what was paid for them, by a clock that this process drives."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = SharedClock(config.run / "clock")
        self.random = np.random.default_rng(3)
        self.asked = 0

    def rides(self, n: int, at_us: int, step_us: int = 0) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """A ride and its payment half an hour later; long rides tip well."""
        for i, km in enumerate(self.random.uniform(0.5, 20.0, n).tolist()):
            self.asked += 1
            who = {"ride_id": f"r{self.asked}", "driver": f"d{self.asked % 7}"}
            at = at_us + i * step_us
            yield who | {"km": km, "started_at": to_iso(at)}, who | {"tip": km / 5, "paid_at": to_iso(at + HOUR // 2)}

    def intake(self) -> IntakeClient:
        return IntakeClient(str(read_door(self.config.run, "intake")), internal_token(self.config.run))

    def load_history(self) -> None:
        pairs = list(self.rides(HISTORY, NOW - 10 * DAY, 10 * DAY // HISTORY))
        known = to_iso(NOW)
        rows = [("ride", ride) for ride, _ in pairs] + [("paid", p) for _, p in pairs if str(p["paid_at"]) < known]
        with self.intake() as client:
            assert set(client.post_internal(rows, history=True)["statuses"]) == {"accepted"}

    def gateway(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{read_door(self.config.run, 'gateway')}{path}", data) as answer:
            return json.loads(answer.read())

    def one_day(self, at_us: int, supervisor: Supervisor) -> list[dict[str, Any]]:
        """Ask about a morning's rides, send what they paid, and let the worker judge the day; the answers."""
        self.clock.set(at_us)
        pairs = list(self.rides(EACH, at_us))
        answers: list[dict[str, Any]] = self.gateway("/predict/both", [ride for ride, _ in pairs])
        logged = 3 * (self.asked - HISTORY)  # the stack's own and its two members'
        until(lambda: self.gateway("/health")["prediction_log"]["sent"] >= logged, supervisor)
        self.clock.set(at_us + HOUR)
        with self.intake() as client:
            client.post_events("paid", [paid for _, paid in pairs])
        midnight = (at_us // DAY + 1) * DAY
        self.clock.set(midnight)
        until(lambda: self.clock.settled_us() >= midnight, supervisor)
        return answers


def until(holds: Callable[[], bool], supervisor: Supervisor, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, supervisor.tail("worker")
        supervisor.poll()
        time.sleep(0.01)


def test_a_stack_earns_its_weights_and_every_gateway_answers_by_them_without_a_restart(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config.definitions.read_text().replace('ms.every("1d")', 'ms.every("90d")')
    config.definitions.write_text(text + GUESS)
    config.run.mkdir(parents=True)
    clock_file = config.run / "clock"
    town = Town(config)
    town.clock.set(NOW)

    def cli(*argv: str) -> dict[str, Any]:
        capsys.readouterr()
        code = run([*argv, "--json", "-C", str(config.root)])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return dict(json.loads(shown.out))

    with Supervisor(config, clock_file=clock_file) as supervisor:
        town.load_history()
        apply_project(config, now_us=NOW, actor="test")
        with Workshop.open(config) as workshop:
            for name in ("guess", "tipping"):
                version = workshop.train(name, workshop.build(name, NOW).path, NOW, actor="test")
                workshop.release(name, version.version, NOW, actor="test")
        until(lambda: town.clock.settled_us() >= NOW, supervisor)
        until(lambda: len(town.gateway("/health")["models"].get("both", {}).get("members", ())) == 2, supervisor)
        with Catalog.open(config.catalog_url) as catalog:
            for day in range(20):
                answers = town.one_day(NOW + day * DAY + HOUR, supervisor)
                assert all(one["model_version"].endswith("-mean") for one in answers)
                if catalog.decisions("weights", model="both"):
                    break
            (given,) = catalog.decisions("weights", model="both")
            assert given.at_us == NOW + 15 * DAY  # two weeks, and the label's horizon into the next day
            weights = weights_from(given.numbers["weights"])
            assert dict(zip(weights.members, weights.weights, strict=True))["tipping"] > 0.5
            (answer, *_) = town.one_day(NOW + 15 * DAY + HOUR, supervisor)
            said = {name: one["prediction"] for name, one in answer["members"].items()}
            assert answer["model_version"].endswith(f"-{weights.version}")
            assert answer["prediction"] == weights.of([said["guess"], said["tipping"]])

            shown = cli("status")["composites"]["both"]
            assert (shown["weights"]["version"], shown["weights"]["of_earlier_versions"]) == (weights.version, [])
            assert (shown["judged"]["answers"], shown["judged"]["rows"]) == (EACH, EACH)
            assert (shown["parity"]["values"], shown["parity"]["exact_share"]) == (EACH, 1.0)
            made_of = cli("explain", answer["prediction_id"])
            assert [(one["member"], one["output"]) for one in made_of["members"]] == list(said.items())
            part = cli("explain", made_of["members"][1]["prediction_id"])
            assert part["prediction"]["part_of"] == answer["prediction_id"]

            with open_desk(
                config, load_project(config.definitions)
            ) as desk:  # as `mainspring rollback both` does, by this clock
                desk.ledger.decide("rollback", "rollback-by-hand", town.clock.now_us(), model="both", actor="test")
            until(lambda: town.gateway("/health")["models"]["both"]["version"].endswith("-mean"), supervisor)
            (answer, *_) = town.one_day(NOW + 16 * DAY + HOUR, supervisor)
            said = {name: one["prediction"] for name, one in answer["members"].items()}
            assert answer["prediction"] == (said["guess"] + said["tipping"]) / 2
