"""A composite is judged beside its members, its answers are made again, and a stack is given what it has earned."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, Standing

from mainspring.catalog import plan
from mainspring.cli.app import run
from mainspring.definitions import load_project
from mainspring.definitions.weights import Weights
from mainspring.events.system import PREDICTION
from mainspring.loop.assets import Key
from mainspring.loop.composites import Composites
from mainspring.loop.controller import Controller
from mainspring.loop.door import audit_metrics
from mainspring.loop.inventory import inventory
from mainspring.loop.ledger import decision_row

DAY = 24 * HOUR
START = 19_700 * DAY
EACH = 60
MORE = """

@ms.model(request=Ride, label=large, task="binary_classification", features=["km"],
          rollout=ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)]), monitor=ms.Monitor(retrain=ms.every("90d")),
          otherwise=ms.otherwise(value=0.5))
def plain(train):
    return LGBMClassifier(n_estimators=5, random_state=train.seed, verbose=-1).fit(train.X, train.y)


both = ms.ensemble("both", plain, tipping, how="HOW", latency=ms.Latency(p99="20ms"))
first = ms.cascade("first", plain, tipping, sure=0.9)
"""


class World(Standing):
    """Two models and two composites, whose answers are written by hand, day after day."""

    def __init__(self, config, how):
        config.definitions.write_text(config.definitions.read_text() + MORE.replace("HOW", how))
        super().__init__(config)
        self.random = np.random.default_rng(7)
        self.day = 0
        self.versions = {"plain": "p1", "tipping": "t1"}
        self.composites = None
        self.truth = None

    def begin(self):
        """Both models serve."""
        self.apply(START)
        for i, name in enumerate(self.versions):
            self.serve(name, self.versions[name], START + 1 + 2 * i)
        self.composites = Composites(self.project, self.clock, self.history, self.catalog, self.ledger)

    def serve(self, model, version, at_us):
        """A version that is the champion from now on."""
        self.decide("version", at_us, {"version": version, "path": f"packages/{version}", "gates": []}, model)
        self.decide("release", at_us + 1, {"version": version}, model)
        if self.catalog.champion(model).version != version:
            self.decide("promote", at_us + 1, {}, model)
        self.versions[model] = version

    def live(self, days, noise=(0.2, 2.5), composite="both", make=None, **more):
        """Days of answers with their outcomes, each judged at its end."""
        for _ in range(days):
            at_us = START + self.day * DAY + HOUR
            truth = self.random.normal(0.0, 1.5, EACH)
            said = expit(truth[:, None] + self.random.normal(size=(EACH, 2)) * np.asarray(noise))
            tips = np.where(self.random.random(EACH) < expit(truth), 5.0, 1.0)
            numbers = range(self.day * EACH, (self.day + 1) * EACH)
            rows = [
                self.row(composite, i, at_us, *pair, make, more) for i, pair in zip(numbers, said.tolist(), strict=True)
            ]
            self.add(PREDICTION, *rows, at_us=at_us)
            paid = [
                {"ride_id": f"ride{i}", "driver": "ann", "tip": float(tip), "paid_at": at_us + HOUR}
                for i, tip in zip(numbers, tips, strict=True)
            ]
            self.add(self.project.sources["paid"], *paid, at_us=at_us + HOUR)
            self.day += 1
            self.judge()

    def judge(self):
        now_us = START + self.day * DAY
        self.clock.set(now_us)
        self.composites.run_due(now_us)

    def row(self, name, number, at_us, plain, tipping, make, more):
        """What the gateway would have logged."""
        composite = self.project.composites[name]
        stack = self.catalog.stack(name, composite.version)
        weights = stack.weights if stack is not None else None
        members = [["plain", self.versions["plain"], "champion", plain]]
        members += [["tipping", self.versions["tipping"], "champion", tipping]]
        output = (plain + tipping) / 2 if weights is None else weights.of([plain, tipping])
        return {
            "prediction_id": f"g-{name}-{number}",
            "predicted_at": at_us + number % EACH * 1_000_000,
            "model": name,
            "version": composite.served_version(weights),
            "variant": "champion",
            "probability": 1.0,
            "unit": f"ride{number}",
            "folded": 1,
            "output": output if make is None else make(plain, tipping),
            "features": "[]",
            "status": "",
            "latency_us": 900,
            "members": json.dumps(members),
            "spread": abs(plain - tipping) / 2,
        } | more

    def said(self, kind, name="both"):
        return self.catalog.decisions(kind, model=name)

    @property
    def weights(self):
        stack = self.catalog.stack("both", self.project.composites["both"].version)
        return stack.weights if stack is not None else None


@pytest.fixture
def world(config):
    made = World(config, "stack")
    made.begin()
    yield made
    made.close()


@pytest.fixture
def mean(config):
    made = World(config, "mean")
    made.begin()
    yield made
    made.close()


def cli(world, capsys, *argv):
    """What a command says, as JSON and to people."""
    out = []
    for form in (["--json"], []):
        capsys.readouterr()
        assert run([*argv, *form, "-C", str(world.config.root)]) == 0
        out.append(capsys.readouterr().out)
    return json.loads(out[0]), out[1]


def test_a_stack_is_given_weights_on_the_day_on_which_they_are_shown_to_be_better(world):
    world.live(14)
    assert world.weights is None
    assert {one.numbers["version"][-5:] for one in world.said("performance")} == {"-mean"}
    world.live(1)  # the fourteenth day is whole and mature on the next one
    (given,) = world.said("weights")
    assert (given.subject, given.actor, given.note) == (world.weights.version, "controller", "")
    assert given.numbers["versions"] == {"plain": "p1", "tipping": "t1"}
    assert given.numbers["against"] == "mean"
    assert 0.0 < given.numbers["better_by_lower"] < given.numbers["better_by"] < given.numbers["better_by_upper"]
    assert (given.numbers["blocks"], given.numbers["tested"]) == (7, 7 * EACH)
    assert "lower than by the mean (between" in given.reason
    plain, tipping = world.weights.weights
    assert plain > 0.6
    assert 0.0 <= tipping < 0.3
    world.live(6)
    last = world.said("performance")[-1].numbers
    assert last["version"].endswith(world.weights.version)
    assert (last["rows"], last["answers"]) == (EACH, EACH)
    assert set(last["members"]) == {"plain", "tipping"}
    assert 0.0 < last["spread"] < 0.5
    assert len(world.said("weights")) == 1  # nothing newer is better by enough


def test_a_worker_that_comes_back_judges_no_day_twice_and_says_nothing_else(world):
    world.live(20)
    before = world.catalog.decision_counts()
    again = Composites(world.project, world.clock, world.history, world.catalog, world.ledger)
    again.run_due(world.clock.now_us())
    assert world.catalog.decision_counts() == before
    world.composites = again
    world.live(1)
    (given,) = world.said("weights")
    assert world.catalog.decision_counts()["performance"] == before["performance"] + 2  # of each composite
    assert given.subject == world.weights.version


def test_weights_stay_when_a_member_gets_a_new_version_and_status_says_that_they_are_of_the_one_before(world, capsys):
    world.live(15)
    first = world.weights
    world.serve("tipping", "t2", world.clock.now_us() + 1)
    world.live(15)  # as good as the one before: a new fit is not better by enough
    assert world.weights == first
    status, text = cli(world, capsys, "status")
    assert status["composites"]["both"]["weights"]["of_earlier_versions"] == ["tipping"]
    assert "fitted before tipping changed" in " ".join(text.split())


def test_when_a_new_version_turns_the_scales_its_answers_make_new_weights(world):
    world.live(15)
    world.serve("tipping", "t2", world.clock.now_us() + 1)
    world.live(22, noise=(2.5, 0.2))
    given = world.said("weights")[-1]
    assert given.numbers["versions"] == {"plain": "p1", "tipping": "t2"}
    assert given.numbers["rows"] + given.numbers["tested"] <= 22 * EACH  # nothing that the version before said is in it
    assert world.weights.weights[1] > world.weights.weights[0]


def test_weights_that_lose_to_the_mean_are_taken_back_and_what_was_fitted_before_is_not_tried_again(world):
    world.live(15)
    first = world.weights
    world.versions["plain"] = "p9"  # a version on its way, say: nobody's champion
    world.live(10, noise=(6.0, 0.2))
    (back,) = world.said("rollback")
    assert (back.subject, back.actor) == (first.version, "controller")
    assert "the weights lose to the mean" in back.reason
    assert world.weights is None
    world.versions["plain"] = "p1"
    world.live(1)
    assert world.said("performance")[-1].numbers["version"].endswith("-mean")
    assert len(world.said("weights")) == 1


def test_a_person_takes_weights_back_and_status_and_catalog_show_them(world, capsys):
    world.live(15)
    weights = world.weights
    status, text = cli(world, capsys, "status")
    shown = status["composites"]["both"]
    assert shown["members"] == {"plain": "p1", "tipping": "t1"}
    assert shown["weights"]["of"] == dict(zip(weights.members, weights.weights, strict=True))
    assert (shown["weights"]["version"], shown["weights"]["of_earlier_versions"]) == (weights.version, [])
    assert shown["weights"]["better_by_lower"] > 0.0
    assert shown["parity"]["exact_share"] == 1.0
    assert status["composites"]["first"]["how"] == "cascade"
    assert f"stack {weights.version}" in " ".join(text.split())
    facts = inventory(world.project, world.catalog)[Key("composite", "both")].facts
    assert "plain" in facts["weights"]
    assert facts["state"] == "in force"
    assert run(["rollback", "both", "--version", "0123456789ab", "-C", str(world.config.root)]) != 0
    capsys.readouterr()
    assert run(["rollback", "both", "--reason", "odd", "--json", "-C", str(world.config.root)]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] is None
    world.ledger.project()
    assert world.weights is None
    assert world.said("rollback")[-1].reason == "odd"
    world.live(1)
    assert len(world.said("weights")) == 1


def test_a_rollback_of_a_composite_without_weights_is_refused(world, capsys):
    assert run(["rollback", "both", "-C", str(world.config.root)]) != 0
    assert "both has no weights: it answers the mean" in " ".join(capsys.readouterr().err.split())
    assert run(["rollback", "first", "-C", str(world.config.root)]) != 0
    assert run(["pause", "both", "-C", str(world.config.root)]) != 0
    assert "both is a composite, not a model" in capsys.readouterr().err


def test_a_composite_that_is_worse_than_its_best_member_is_an_incident_until_something_changes(mean):
    mean.live(8, noise=(0.2, 4.0))
    (incident,) = mean.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model, incident.column) == ("composite", "both", "plain")
    assert "both is worse than its member plain alone: log_loss" in incident.reason
    assert incident.numbers["worse_by_lower"] > 0.0
    assert mean.said("performance")[-1].numbers["beside"] == "plain"
    mean.live(2, noise=(0.2, 4.0))
    assert len(mean.catalog.incidents()) == 1
    mean.serve("tipping", "t2", mean.clock.now_us() + 1)
    mean.live(1)
    assert mean.catalog.incidents(is_open=True) == ()


def look(world):
    """What the controller does after definitions have changed."""
    now_us = world.clock.now_us() + HOUR
    world.clock.set(now_us)
    parts = (world.config, world.project, world.clock, world.log, world.history, world.catalog, world.ledger, None)
    controller = Controller(*parts)
    world.clock.set(now_us + HOUR)
    controller.run_due(now_us + HOUR)


def test_incidents_of_a_composite_that_is_no_longer_defined_are_closed(mean):
    mean.live(8, noise=(0.2, 4.0), latency_us=90_000)
    mean.live(1, noise=(0.2, 4.0), make=lambda plain, tipping: (plain + tipping) / 2 + 1e-12)
    found = mean.catalog.incidents(is_open=True)
    assert {(one.kind, one.model) for one in found} == {(kind, "both") for kind in ("composite", "latency", "parity")}
    look(mean)
    assert len(mean.catalog.incidents(is_open=True)) == 3
    path = mean.config.definitions
    path.write_text(path.read_text().partition("both = ")[0])
    mean.apply(mean.clock.now_us() + 1)
    look(mean)
    assert [one.closing for one in mean.catalog.incidents()] == ["both is no longer defined"] * 3


def test_an_incident_of_a_latency_budget_that_is_given_up_is_closed(mean):
    mean.live(2, latency_us=90_000)
    path = mean.config.definitions
    path.write_text(path.read_text().replace(', latency=ms.Latency(p99="20ms")', ""))
    mean.apply(mean.clock.now_us() + 1)
    look(mean)
    assert [one.closing for one in mean.catalog.incidents()] == ["both has no latency budget any more"]


def test_a_composite_that_is_as_good_as_its_members_opens_nothing(mean):
    mean.live(20, noise=(1.0, 1.0))
    assert mean.catalog.incidents() == ()
    assert mean.said("performance")[-1].numbers["worse_by"] < 0.0


def test_a_cascade_is_compared_with_its_first_member_alone(mean):
    def make(plain, tipping):
        return tipping

    mean.live(8, noise=(0.2, 4.0), composite="first", make=make)
    (incident,) = mean.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model, incident.column) == ("composite", "first", "plain")


def test_a_composites_latency_budget_is_watched(mean):
    mean.live(2, latency_us=90_000)
    (incident,) = mean.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model) == ("latency", "both")


def test_answers_that_are_not_what_the_members_make_open_an_incident_and_three_clean_audits_close_it(mean):
    mean.live(1)
    (clean,) = mean.said("parity")
    assert (clean.numbers["values"], clean.numbers["exact_share"]) == (EACH, 1.0)
    mean.live(1, make=lambda plain, tipping: (plain + tipping) / 2 + 1e-12)
    (incident,) = mean.catalog.incidents(is_open=True)
    assert (incident.kind, incident.model, incident.column) == ("parity", "both", "output")
    assert 'mainspring_parity_exact_share{model="both"} 0' in "\n".join(audit_metrics(mean.catalog))
    mean.live(3)
    assert mean.catalog.incidents(is_open=True) == ()


def test_answers_of_a_definition_or_of_weights_that_are_not_known_are_not_compared(world):
    world.live(1, version="0123456789ab")
    world.live(1, version=f"{world.project.composites['both'].version}-0123456789ab")
    assert [one.numbers["not_compared"] for one in world.said("parity")] == [EACH, EACH]
    assert world.catalog.incidents() == ()


def test_declared_values_and_answers_without_an_output_are_no_performance(world):
    world.live(1, version="otherwise")
    world.live(1, output=None)
    assert [one.numbers["rows"] for one in world.said("performance")] == [0, 0]
    assert world.said("parity") == ()


def test_a_plan_says_what_becomes_of_weights_and_whether_members_have_time(world):
    old = world.project.describe()
    path = world.config.definitions
    text = path.read_text()

    def lines(changed):
        path.write_text(changed)
        found = plan(old, load_project(path).describe())
        return [f"{one.action} {one.name}: {one.text}" for one in found.lines if one.kind == "composite"]

    assert lines(text) == []
    assert lines(text.replace('how="stack"', 'how="mean"')) == [
        "change both: how changed: it is served so once applied"
    ]
    (line,) = lines(text.replace('"both", plain, tipping', '"both", tipping, plain'))
    assert "members changed" in line
    assert "weights that it had are of another composite" in line
    (line,) = lines(text.replace('p99="20ms"', 'p99="30ms"'))
    assert line == "change both: latency= changed: it is served so once applied"
    slow = text.replace("otherwise=ms.otherwise(value=0.5))", 'latency=ms.Latency(p99="15ms"))')
    assert lines(slow) == ["warn both: p99 of its members adds up to 30ms, it shall take 20ms"]


def test_the_version_of_a_composite_does_not_know_its_latency_budget(world):
    one = world.project.composites["both"]
    path = world.config.definitions
    path.write_text(path.read_text().replace(', latency=ms.Latency(p99="20ms")', ""))
    assert load_project(path).composites["both"].version == one.version


def test_weights_that_cannot_be_read_are_refused(world):
    world.decide("weights", START + DAY, {"definition": "x", "weights": {"members": ["a"]}}, "both")
    (said,) = world.said("weights")
    assert "cannot be read" in said.note
    for i, wrong in enumerate(
        (
            Weights(("plain",), (1.0, 2.0), 0.0, "linear"),
            Weights(("plain", "tipping"), (1.0, -2.0), 0.0, "log_odds"),
            Weights(("plain", "tipping"), (1.0, 2.0), float("inf"), "log_odds"),
            Weights(("plain", "tipping"), (1.0, 2.0), 0.0, "square"),
            Weights(("tipping", "plain"), (1.0, 2.0), 0.0, "log_odds"),
        )
    ):
        numbers = {"definition": world.project.composites["both"].version, "weights": wrong.describe()}
        row = decision_row("weights", f"wrong-{i}", START + DAY, "both", None, "ann", "", None)
        assert "its weights" in world.catalog.objection(row | {"numbers": numbers})
    assert world.catalog.stacks() == ()
    made = Weights(("plain", "tipping"), (1.0, 0.0), 0.0, "log_odds")
    world.decide("weights", START + DAY + 1, {"definition": "x", "weights": made.describe()}, "both")
    assert world.catalog.stacks()[0].weights == made
    assert world.weights is None  # of another definition
    assert made.of([0.3, 0.9]) == pytest.approx(expit(logit(0.3)))
