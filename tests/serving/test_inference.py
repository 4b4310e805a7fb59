import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rides import MINUTE, NOW, ride

from mainspring.core.clock import ManualClock
from mainspring.features import Reader
from mainspring.models import load
from mainspring.serving.inference import Expressions, Outputs, choose, gather, run
from mainspring.serving.request import RequestReader
from mainspring.serving.snapshot import load_snapshot

COL = pl.col


def served(world, model="late_ride"):
    snapshot = load_snapshot(1, world.catalog.routes(), world.project, None, Reader((), world.store))
    assert not snapshot.problems
    return snapshot.models[model]


def rows_of(world, *requests):
    contract = RequestReader(world.project.sources["ride"], ManualClock(NOW), 10).contract
    return [contract.check(request) for request in requests]


def score(world, *requests, model="late_ride"):
    one = served(world, model)
    rows = rows_of(world, *requests)
    gathered, error = gather(rows, [NOW] * len(rows), one.views, one.expressions, Reader((), world.store))
    assert error is None
    return run(one.champion, gathered), gathered


def test_each_input_is_what_its_definition_says(world):
    version = world.live()
    offset = world.fold(("ann", 4.0, 10), ("ann", 8.0, 59), ("ann", 100.0, 61), ("bob", 3.0, 30))
    outputs, gathered = score(
        world,
        ride(1),
        ride(2, driver="bob", passengers=None, zone="south"),
        ride(3, driver="eve"),
        ride(4, driver=None),
    )
    names = outputs.inputs.names
    shown = [dict(zip(names, row, strict=True)) for row in outputs.inputs.values.tolist()]
    nan = pytest.approx(math.nan, nan_ok=True)
    assert names == (
        "driver__late_mean_1h", "driver__rides_24h", "distance_km", "zone", "passengers", "hour", "place"
    )  # fmt: skip
    assert [(s["driver__late_mean_1h"], s["driver__rides_24h"]) for s in shown] == [(6, 3), (3, 1), (nan, 0), (nan, 0)]
    assert [s["passengers"] for s in shown] == [2, nan, 2, 2]
    assert [s["hour"] for s in shown] == [12] * 4
    assert outputs.inputs.written == {
        3: ["north", "south", "north", "north"],
        6: ["northann", "southbob", "northeve", None],
    }
    assert gathered.folded == offset
    features, status = outputs.inputs.logged(1)
    assert features == '[3.0,1.0,7.5,"south",null,12.0,"southbob"]'
    assert status == "[0,0,0,0,1,0,0]"
    assert outputs.inputs.logged(0)[1] == ""
    assert outputs.inputs.shown_status(3)["place"] == "missing"
    package = load(world.config.packages / "late_ride" / version)
    columns = {
        name: outputs.inputs.written.get(i, outputs.inputs.values[:, i].tolist()) for i, name in enumerate(names)
    }
    assert outputs.values == package.runtime.predict(columns).tolist()
    assert not outputs.failed


def test_a_batch_answers_as_its_rows_do_one_by_one(world):
    world.live()
    world.fold(("ann", 4.0, 10), ("bob", 3.0, 30))
    requests = [
        ride(i, driver=d, distance_km=float(i), zone=z)
        for i, (d, z) in enumerate([("ann", "north"), ("bob", "south"), (None, "north"), ("ann", "south")])
    ]
    together, _ = score(world, *requests)
    alone = [score(world, request)[0].values[0] for request in requests]
    assert together.values == alone


def test_a_store_that_cannot_be_read_gives_defaults_and_says_so(world):
    world.live()
    one = served(world)
    reader = Reader((), world.store)
    world.store.env.close()
    gathered, error = gather(rows_of(world, ride()), [NOW], one.views, one.expressions, reader)
    assert error is not None
    outputs = run(one.champion, gathered)
    assert gathered.folded == 0
    assert outputs.inputs.shown_status(0)["driver__rides_24h"] == "default"
    assert 0 < outputs.values[0] < 1


def test_a_row_without_a_finite_output_fails_alone(world):
    version = world.straight()
    world.decide("release", "minutes", version=version)
    outputs, _ = score(world, ride(1), ride(2, passengers=None), ride(3), model="minutes")
    assert set(outputs.failed) == {1}
    assert outputs.failed[1][0] == "output"
    assert all(math.isfinite(outputs.values[i]) for i in (0, 2))


def test_a_model_that_raises_on_one_row_fails_for_that_row_alone(world):
    world.live()
    one = served(world)
    rows = rows_of(world, ride(1), ride(2), ride(3))
    gathered, _ = gather(rows, [NOW] * 3, one.views, one.expressions, Reader((), world.store))

    class Picky:
        def predict_matrix(self, numbers, texts):
            if (texts == "bad").any():
                raise RuntimeError("no such category")
            return one.champion.runtime.predict_matrix(numbers, texts)

    class Layout:
        expressions = frozenset()

        def fill(self, gathered):
            inputs = one.champion.layout.fill(gathered)
            inputs.texts[1, 0] = "bad"
            return inputs

    outputs = run(type(one.champion)("v", Picky(), Layout()), gathered)
    assert outputs.failed[1] == ("model", "no such category")
    assert set(outputs.failed) == {1}
    assert outputs.values[0] == run(one.champion, gathered).values[0]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.one_of(st.none(), st.integers(-5, 5)), st.sampled_from("ab")), min_size=1)
)
def test_expressions_are_what_polars_says_of_the_whole_frame(rows):
    from datetime import datetime

    from mainspring.definitions import Source

    class Asked(Source, time="at", name="asked"):
        x: float
        n: int | None
        s: str
        at: datetime

    exprs = {
        "ratio": COL("x") / (COL("n") + 1),
        "hour": COL("at").dt.hour(),
        "up": COL("s").str.to_uppercase(),
        "two": pl.lit(2.0),
    }
    full = [(x, n, s, NOW + i * 37 * MINUTE) for i, (x, n, s) in enumerate(rows)]
    compiled = Expressions([e.meta.serialize(format="json") for e in exprs.values()], Asked.definition, ())
    times_us = np.array([row[3] for row in full], np.int64)
    got, _, broken = compiled.evaluate(full, times_us, (), {})
    frame = pl.DataFrame(full, schema=Asked.definition.schema | {"at": pl.Int64}, orient="row")
    frame = frame.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))).with_columns(**exprs)
    for values, name in zip(got, exprs, strict=True):
        if name == "up":
            assert values == frame[name].to_list()
        else:
            np.testing.assert_array_equal(values, frame[name].cast(pl.Float64).to_numpy())
    assert broken == {}


def test_an_expression_that_cannot_be_computed_for_one_row_leaves_the_others(world):
    source = world.project.sources["ride"]
    strict = COL("driver").str.to_integer(strict=True)
    compiled = Expressions([e.meta.serialize(format="json") for e in (strict, COL("distance_km") * 2)], source, ())
    rows = rows_of(world, ride(1, driver="12"), ride(2, driver="ann"), ride(3, driver="7"))
    (number, double), (status, _), broken = compiled.evaluate(rows, np.full(3, NOW), (), {})
    assert number[0], number[2] == (12, 7)
    assert double.tolist() == [15, 15, 15]
    assert status.tolist() == [0, 1, 0]
    assert list(broken) == [0]
    assert list(broken[0]) == [1]


GOOD, BAD, BLIND = {}, {0: ("output", "nan")}, {0: ("features", "could not be read")}


DRAWN, KEPT = ("output", "challenger"), ("output", "champion")
ABSENT, UNREAD = ("not_loaded", "champion"), ("features", "champion")


class Named:
    def __init__(self, version):
        self.version = version


def scored(name, value, failed):
    return None if failed is None else (Named(name), Outputs(None, [value], failed))


@pytest.mark.parametrize(
    ("assigned", "champion", "challenger", "last_good", "value", "expected"),
    [
        ("champion", GOOD, None, None, 4.0, ("champion", "champion", 1.0, None, None, None, None)),
        ("champion", GOOD, GOOD, None, 4.0, ("champion", "champion", 1.0, "challenger", None, None, None)),
        ("challenger", GOOD, GOOD, GOOD, 4.0, ("challenger", "challenger", 2.0, "champion", None, None, None)),
        ("challenger", GOOD, BAD, GOOD, 4.0, ("fallback", "champion", 1.0, "challenger", "champion", *DRAWN)),
        ("challenger", BAD, BAD, GOOD, 4.0, ("fallback", "last_good", 3.0, "challenger", "last_good", *DRAWN)),
        ("challenger", BAD, BAD, BAD, 4.0, ("fallback", "otherwise", 4.0, "challenger", "value", *DRAWN)),
        ("champion", BAD, GOOD, GOOD, None, ("fallback", "last_good", 3.0, "challenger", "last_good", *KEPT)),
        ("champion", BAD, None, None, None, ("champion", "champion", None, None, None, "output", None)),
        ("champion", BAD, None, None, 4.0, ("fallback", "otherwise", 4.0, None, "value", *KEPT)),
        ("champion", None, None, GOOD, None, ("fallback", "last_good", 3.0, None, "last_good", *ABSENT)),
        ("champion", None, None, None, 4.0, ("fallback", "otherwise", 4.0, None, "value", *ABSENT)),
        ("champion", BAD, None, BAD, None, ("champion", "champion", None, None, None, "output", None)),
        ("champion", BLIND, None, GOOD, None, ("fallback", "last_good", 3.0, None, "last_good", *UNREAD)),
        ("champion", BLIND, None, BLIND, 4.0, ("fallback", "otherwise", 4.0, None, "value", *UNREAD)),
        ("champion", BLIND, None, BLIND, None, ("champion", "champion", 1.0, None, None, None, None)),
    ],
)
def test_who_answers_is_the_assigned_model_then_the_champion_then_the_spare_ones_then_the_value(
    assigned, champion, challenger, last_good, value, expected
):
    pair = {"champion": scored("champion", 1.0, champion), "challenger": scored("challenger", 2.0, challenger)}
    found = choose(assigned, 0, pair, [("last_good", scored("last_good", 3.0, last_good))], value)
    assert (
        found.variant,
        found.version,
        found.output,
        found.other_version,
        found.fallback,
        found.error,
        found.drawn,
    ) == expected
