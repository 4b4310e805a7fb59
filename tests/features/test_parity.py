"""Parity of logged predictions with replay, and lag skew apart from it."""

import json

import polars as pl
import pytest
from streams import EVENTS, every_aggregate, fold_all, frame, make_view, read_live, record, stamp

from mainspring import definitions as ms
from mainspring.definitions import Feature, Field, LabelDef, ModelDef, SourceDef
from mainspring.definitions.expressions import expression
from mainspring.features.parity import check
from mainspring.features.status import Status

REQUESTS = SourceDef(
    "asks", (Field("id", "str"), Field("k", "str", nullable=True), Field("at", "datetime")), time="at", id="id"
)
VIEW = make_view(*every_aggregate(1_000, functions=("count", "sum", "mean", "std", "min", "max", "last", "age")))
FEATURES = (Feature("k", "str"), *(Feature(*VIEW.columns_of(f), "float", VIEW, f) for f in VIEW.features))
LABEL = LabelDef(EVENTS, "k", expression("x", EVENTS.schema, of="events", where="tests"), 10, ms.exclude)
MODEL = ModelDef(
    "m",
    REQUESTS,
    LABEL,
    "regression",
    FEATURES,
    (),
    ms.Rollout(),
    ms.Monitor(every="1d", retrain=ms.every("30d")),
    print,
)
RECORDS = [record(i + 1, "ab"[i % 2], x, i * 10) for i, x in enumerate([1.5, 0.1, 2.5, 1e9, -3.0, 0.3, 7.7, 0.2])]


class Frames:
    def __init__(self, requests):
        self.frames = {"asks": requests, "events": frame(RECORDS)}

    def frame(self, name, columns=None):
        found = self.frames[name]
        return found if columns is None else found.select(c for c in found.columns if c in columns)


def world(store, *, known_us=(90, 90), folded=8):
    """Two predictions served from the store, as the log holds them, and the history to replay them from."""
    fold_all(store, [VIEW], RECORDS[:folded])
    keys, t_us = [("a",), (None,)], [85, 85]
    values, status, offset = read_live(store, VIEW, keys, t_us)
    asks = {
        "_id": ["r0", "r1"],
        "_offset": [101, 102],
        "_time": [stamp(t) for t in t_us],
        "_known_at": [stamp(u) for u in known_us],
        "id": ["r0", "r1"],
        "k": [k for (k,) in keys],
        "at": [stamp(t) for t in t_us],
    }
    rows = []
    for i, (key,) in enumerate(keys):
        served = [key, *(None if v != v else v for v in values[i].tolist())]
        codes = [0, *status[i].tolist()]
        rows.append(
            {
                "prediction_id": f"p{i}",
                "predicted_at": stamp(t_us[i]),
                "model": "m",
                "request_id": f"r{i}",
                "folded": offset,
                "features": json.dumps(served),
                "status": json.dumps(codes) if any(codes) else "",
                "output": 0.5,
                "error": None,
                "cached": None,
            }
        )
    return pl.DataFrame(rows), Frames(pl.DataFrame(asks))


def test_what_was_served_is_what_a_replay_gives(store):
    report = check(MODEL, *world(store))
    assert (report.predictions, report.unlinked, report.lag.lagging) == (2, 0, 0)
    assert report.values == report.exact == 16
    assert report.exact_share == 1.0
    assert report.different == 0
    assert report.to_dict()["exact"] == 16


@pytest.mark.parametrize(
    ("name", "tamper", "kind"),
    [
        ("view__sum", lambda v: v * (1 + 1e-6), "unequal"),
        ("view__mean", lambda _: None, "missing"),
        ("view__std", lambda v: v * (1 + 1e-3), "unequal"),
        ("view__std", lambda v: float(pl.Series([v], dtype=pl.Float32)[0]) * (1 + 2.0**-23), "within_tolerance"),
        ("view__sum", lambda v: v * (1 + 1e-12), "exact"),  # below float32: the model could not see it
    ],
)
def test_a_value_that_differs_is_counted_and_shown(store, name, tamper, kind):
    predictions, history = world(store)
    place = [f.name for f in FEATURES].index(name)
    served = json.loads(predictions["features"][0])
    served[place] = tamper(served[place])
    texts = [json.dumps(served), predictions["features"][1]]
    report = check(MODEL, predictions.with_columns(features=pl.Series(texts)), history)
    (one,) = [f for f in report.features if f.name == name]
    assert getattr(one, kind) == (2 if kind == "exact" else 1)
    assert report.different == (0 if kind in {"exact", "within_tolerance"} else 1)
    assert [(e.prediction_id, e.feature) for e in report.examples if kind != "within_tolerance"] == (
        [("p0", name)] if report.different else []
    )


def test_a_value_where_replay_has_none_is_extra(store):
    predictions, history = world(store)
    served = json.loads(predictions["features"][1])
    served[2] = 4.0
    texts = [predictions["features"][0], json.dumps(served)]
    report = check(MODEL, predictions.with_columns(features=pl.Series(texts)), history)
    assert [f.extra for f in report.features] == [0, 1, 0, 0, 0, 0, 0, 0]


def test_what_the_fold_had_not_seen_in_time_is_lag_skew_and_no_difference(store):
    report = check(MODEL, *world(store, folded=5))
    assert report.exact_share == 1.0
    assert report.lag.lagging == 1  # the prediction for "a"; a null key has nothing to miss
    assert (report.lag.behind, report.lag.most_records) == (2, 3)
    assert report.lag.most_s == (90 - 50) / 1e6


def test_features_served_as_unavailable_or_default_are_not_compared(store):
    predictions, history = world(store)
    codes = [0, *[int(Status.UNAVAILABLE)] * 4, *[int(Status.DEFAULT)] * 4]
    features = [json.dumps(["a", *[None] * 8]), predictions["features"][1]]
    predictions = predictions.with_columns(
        status=pl.Series([json.dumps(codes), predictions["status"][1]]), features=pl.Series(features)
    )
    report = check(MODEL, predictions, history)
    assert report.values == report.exact == 8
    assert sum(f.not_compared for f in report.features) == 8


def test_predictions_of_others_without_a_request_or_with_other_features_are_left_out(store):
    predictions, history = world(store)
    other = predictions.with_columns(model=pl.lit("other"))
    lost = predictions.with_columns(request_id=pl.lit(None, pl.String))
    changed = predictions.with_columns(features=pl.lit("[1.0]"), status=pl.lit(""))
    report = check(MODEL, pl.concat([predictions, other, lost, changed]), history)
    assert (report.predictions, report.unlinked) == (2, 4)


def test_no_predictions_are_no_differences():
    empty = pl.DataFrame(
        schema=dict.fromkeys(
            ("prediction_id", "model", "request_id", "features", "status", "error", "cached"), pl.String
        )
        | {"output": pl.Float64, "predicted_at": pl.Datetime("us", "UTC"), "folded": pl.Int64}
    )
    instant = pl.Datetime("us", "UTC")
    asks = pl.DataFrame(
        schema={"_id": pl.String, "_offset": pl.Int64, "_known_at": instant, "_time": instant} | REQUESTS.schema
    )
    report = check(MODEL, empty, Frames(asks))
    assert (report.values, report.exact_share) == (0, None)
