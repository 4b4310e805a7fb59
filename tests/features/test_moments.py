"""What a model sees at given moments: values, statuses, tolerances, and what cannot be computed."""

import math
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

import mainspring as ms
from mainspring import col
from mainspring.features import moments
from mainspring.features.moments import features_at, instants_of, tolerance_of
from mainspring.features.status import Status

UTC_US = pl.Datetime("us", "UTC")
T0 = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1_000_000)
HOUR = 3_600_000_000


class Paid(ms.Source, id="payment", time="paid_at"):
    payment: str
    card: str
    amount: float
    shop: str | None
    paid_at: datetime


class Asked(ms.Source, id="payment", time="asked_at"):
    payment: str
    card: str
    amount: float | None
    asked_at: datetime


class Judged(ms.Source, id="payment", time="judged_at"):
    payment: str
    is_fraud: bool
    judged_at: datetime


@ms.feature_view(Paid, entity="card")
class Card:
    n = ms.count(window="2h")
    total = ms.sum("amount", window="2h")
    spread = ms.std("amount", window="2h")
    last_shop = ms.last("shop", ttl="1h")
    last_at = ms.last("paid_at")
    mean = col("total") / col("n")
    near = col("total") - col("spread")
    since_s = ms.time_since("last_at")


fraud = ms.label(Judged, on="payment", value="is_fraud", within="1d", otherwise=False)


def model(*features, using=()):
    @ms.model(request=Asked, label=fraud, task="binary_classification", features=list(features), using=list(using))
    def fraudulent(train):
        return None

    return fraudulent


def history(name):
    assert name == "paid"
    at = [T0, T0 + HOUR, T0 + HOUR]
    return pl.DataFrame(
        {
            "payment": ["a", "b", "c"],
            "card": ["x", "x", "y"],
            "amount": [1.0, 4.0, 9.0],
            "shop": ["pub", None, "bar"],
            "paid_at": at,
            "_time": at,
            "_known_at": at,
            "_offset": [1, 2, 3],
            "_id": ["a", "b", "c"],
        }
    ).with_columns(pl.col("paid_at", "_time", "_known_at").cast(UTC_US))


def requests(*cards, amounts=None):
    amounts = [2.0] * len(cards) if amounts is None else amounts
    at = [T0 + 90 * 60_000_000] * len(cards)
    columns = {"payment": [str(i) for i in range(len(cards))], "card": cards, "amount": amounts, "asked_at": at}
    schema = {"payment": pl.String, "card": pl.String, "amount": pl.Float64, "asked_at": pl.Int64}
    return pl.DataFrame(columns, schema=schema).with_columns(pl.col("asked_at").cast(UTC_US))


def seen(definition, asked, **more):
    at = asked["asked_at"]
    return features_at(definition, asked, history, at, **({"known_us": at} | more))


def test_every_kind_of_feature_at_once_in_the_models_order():
    definition = model(Card, "amount", (col("amount") / Card.col("mean")).alias("relative"))
    found = seen(definition, requests("x", "y", "nobody"))
    assert list(found.columns) == [f.name for f in definition.features]
    assert found.columns["card__n"].to_list() == [2.0, 1.0, 0.0]
    assert found.columns["card__mean"].to_list()[:2] == [2.5, 9.0]
    assert found.columns["card__last_shop"].to_list() == [None, "bar", None]
    assert found.columns["card__since_s"].to_list()[:2] == [1800.0, 1800.0]
    assert found.columns["relative"].to_list()[:2] == [0.8, 2.0 / 9.0]
    assert math.isnan(found.columns["relative"][2])
    assert "card__last_at" not in found.columns
    assert found.status["card__last_shop"].tolist() == [Status.EXPIRED, Status.PRESENT, Status.MISSING]
    assert found.status["relative"].tolist() == [Status.PRESENT, Status.PRESENT, Status.MISSING]
    assert found.status["amount"].tolist() == [Status.PRESENT] * 3


def test_only_the_features_asked_for_are_answered_and_only_their_views_replayed():
    definition = model(Card, "amount")
    found = features_at(
        definition, requests("x"), lambda _: pytest.fail("a view was read"), [T0], known_us=[T0], only={"amount"}
    )
    assert list(found.columns) == ["amount"]


def test_what_was_not_known_is_not_seen():
    definition = model(Card)
    assert seen(definition, requests("x"), known_us=None, known_offset=[1]).columns["card__n"].to_list() == [1.0]
    assert seen(definition, requests("x"), known_us=[T0 + HOUR]).columns["card__n"].to_list() == [1.0]


def test_pieces_are_the_whole(monkeypatch):
    definition = model(Card, (Card.col("last_shop") + "!").alias("shop"), col("card").str.reverse().alias("back"))
    asked = requests(*"xyxxyzx")
    whole = seen(definition, asked).columns
    monkeypatch.setattr(moments, "_PIECE", 3)
    pieces = seen(definition, asked).columns
    assert all(pieces[name].equals(column, null_equal=True) for name, column in whole.items())
    assert seen(definition, asked.clear()).columns["shop"].to_list() == []


def test_a_row_that_a_strict_cast_cannot_take_is_named_and_spoils_no_other(monkeypatch):
    definition = model(col("amount").cast(int).alias("whole"))
    assert seen(definition, requests("x", amounts=[2.7])).columns["whole"].to_list() == [2.0]
    monkeypatch.setattr(moments, "_PIECE", 3)
    definition = model(col("amount").cast(int).alias("whole"), (col("amount") * 2).alias("double"))
    found = seen(definition, requests(*"xxxxx", amounts=[1.0, math.inf, 3.0, 4.0, -math.inf]))
    assert {name: list(rows) for name, rows in found.broken.items()} == {"whole": [1, 4]}
    assert found.is_broken("whole").tolist() == [False, True, False, False, True]
    assert not found.is_broken("double").any()
    assert found.columns["whole"].to_list()[::2][:2] == [1.0, 3.0]
    assert found.columns["whole"].is_nan().to_list() == found.is_broken("whole").tolist()
    assert found.columns["double"].to_list() == [2.0, math.inf, 6.0, 8.0, -math.inf]


def test_a_feature_is_as_exact_as_the_least_exact_value_that_it_reads():
    definition = model(Card, "amount", (col("amount") / Card.col("mean")).alias("relative"))
    tolerances = {f.name: tolerance_of(definition, f) for f in definition.features}
    assert tolerances["card__spread"] == tolerances["card__near"] == 1e-12
    assert tolerances["card__mean"] == tolerances["relative"] == tolerances["amount"] == 0.0


def test_instants_are_microseconds_whatever_they_come_as():
    column = pl.Series([T0], dtype=pl.Int64)
    for given in (column, column.cast(UTC_US), [T0], np.array([T0])):
        assert instants_of(given).tolist() == [T0]
        assert instants_of(given).dtype == np.int64
