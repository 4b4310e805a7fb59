"""Expressions over features: derived in a view, joined in a model, by the moment; what they become and may not be."""

import math
from datetime import UTC, datetime
from typing import Annotated

import polars as pl
import pytest

import mainspring as ms
from mainspring import col, when
from mainspring.core.errors import DefinitionError
from mainspring.definitions.codec import view_from
from mainspring.definitions.expressions import parse


class Paid(ms.Source, id="payment", time="paid_at"):
    payment: str
    card: str
    shop: str
    amount: float
    kind: str
    is_web: bool
    shape: Annotated[list[float], ms.dim(2)]
    paid_at: datetime


class Asked(ms.Source, id="payment", time="asked_at"):
    payment: str
    card: str
    shop: str
    amount: float
    opened_at: datetime | None
    asked_at: datetime


class Judged(ms.Source, id="payment", time="judged_at"):
    payment: str
    is_fraud: bool
    judged_at: datetime


@ms.feature_view(Paid, entity="card")
class Card:
    sum_1h = ms.sum("amount", window="1h")
    sum_24h = ms.sum("amount", window="24h")
    n_24h = ms.count(window="24h")
    last_at = ms.last("paid_at")
    kind = ms.last("kind")
    amounts = ms.last_k("amount", 3)
    shape = ms.last("shape")
    share = col("sum_1h") / col("sum_24h")
    rest = 1 - col("share")
    since_s = ms.time_since("last_at")
    latest_first = when(col("amounts_1").is_null()).then(None).otherwise(col("amounts_1") - col("amounts_2"))
    is_web = col("kind") == "web"
    soon = col("last_at") + pl.duration(hours=1)


@ms.feature_view(Paid, entity="shop")
class Shop:
    mean_7d = ms.mean("amount", window="7d")
    spread = ms.std("amount", window="7d")
    z = col("mean_7d") / col("spread")


fraud = ms.label(Judged, on="payment", value="is_fraud", within="1d", otherwise=False)
OPTIONS = {"request": Asked, "label": fraud, "task": "binary_classification"}


def model(*features, using=()):
    @ms.model(**OPTIONS, features=list(features), using=list(using))
    def fraudulent(train):
        return None

    return fraudulent


def feature(definition, name):
    return next(f for f in definition.features if f.name == name)


def evaluated(one, **columns):
    return pl.DataFrame(columns).select(one.expression.expr).to_series().to_list()


def test_a_view_keeps_what_it_derives_apart_from_what_it_aggregates():
    assert [a.name for a in Card.features] == ["sum_1h", "sum_24h", "n_24h", "last_at", "kind", "amounts", "shape"]
    kinds = {e.name: e.kind for e in Card.derived}
    assert kinds == {
        "share": "float",
        "rest": "float",
        "since_s": "float",
        "latest_first": "float",
        "is_web": "bool",
        "soon": "datetime",
    }
    assert not any("share" in name for name in Card.column_names)


def test_what_is_derived_of_the_derived_reads_the_view_alone():
    rest = next(e for e in Card.derived if e.name == "rest")
    assert set(rest.inputs) == {"sum_1h", "sum_24h"}
    assert pl.DataFrame({"sum_1h": [1.0], "sum_24h": [4.0]}).select(rest.expr)["rest"].to_list() == [0.75]


def test_a_view_with_what_it_derives_comes_back_from_its_description():
    again = view_from(Card.describe())
    assert again.version == Card.version
    assert [(e.name, e.kind, e.inputs) for e in again.derived] == [(e.name, e.kind, e.inputs) for e in Card.derived]


def test_a_model_sees_a_views_values_and_what_it_derives_but_no_instant():
    names = [f.name for f in model(Card).features]
    assert "card__share" in names
    assert {"card__amounts_1", "card__amounts_2", "card__amounts_3", "card__shape_1", "card__shape_2"} <= set(names)
    assert not {"card__last_at", "card__soon"} & set(names)
    assert feature(model(Card), "card__kind").kind == "str"


def test_a_derived_feature_of_a_model_reads_the_views_columns_by_their_full_names():
    share = feature(model(Card), "card__share")
    assert share.expression.inputs == ("card__sum_1h", "card__sum_24h")
    assert evaluated(share, card__sum_1h=[1.0], card__sum_24h=[4.0]) == [0.25]
    since = feature(model(Card), "card__since_s")
    moments = {"_moment": [datetime(2026, 1, 2, tzinfo=UTC)], "card__last_at": [datetime(2026, 1, 1, tzinfo=UTC)]}
    assert evaluated(since, **moments) == [86_400.0]


def test_a_model_joins_two_views_and_the_request():
    joined = model(((col("amount") - Shop.col("mean_7d")) / Card.col("sum_24h")).alias("odd"), using=[Card, Shop])
    assert [v.name for v in joined.views] == ["card", "shop"]
    assert [f.name for f in joined.features] == ["odd"]
    assert evaluated(feature(joined, "odd"), amount=[3.0], shop__mean_7d=[1.0], card__sum_24h=[4.0]) == [0.5]
    assert {v.name for v in joined.views_of(joined.features[0])} == {"card", "shop"}


def test_what_a_view_derives_may_be_joined_like_its_values():
    joined = model((Card.col("share") * Shop.col("z")).alias("both"), using=[Card, Shop])
    both = feature(joined, "both")
    assert set(both.expression.inputs) == {"card__sum_1h", "card__sum_24h", "shop__mean_7d", "shop__spread"}
    row = {"card__sum_1h": [1.0], "card__sum_24h": [4.0], "shop__mean_7d": [8.0], "shop__spread": [2.0]}
    assert evaluated(both, **row) == [1.0]


def test_a_column_of_a_view_alone_is_that_value_of_the_view_and_no_expression():
    one = model(Card.col("sum_1h"), using=[Card]).features[0]
    assert (one.view.name, one.aggregate.name, one.expression) == ("card", "sum_1h", None)
    assert model(Card.col("sum_1h").alias("spent"), using=[Card]).features[0].expression is not None


def test_a_view_that_only_expressions_read_belongs_to_the_models_version():
    odd = (col("amount") / Shop.col("mean_7d")).alias("odd")
    one = model(Card, odd, using=[Shop])
    assert one.using == (Shop,)
    assert one.describe()["using"] == [["shop", Shop.version]]
    assert model(Shop, odd).using == ()
    assert "using" not in model("amount").describe()


def test_a_view_that_is_offered_and_not_read_costs_nothing():
    assert model("amount", using=[Card]).views == ()


def test_time_since_counts_seconds_to_the_moment_and_is_null_without_an_instant():
    one = feature(model(ms.time_since("opened_at").alias("open_s")), "open_s")
    assert set(one.expression.inputs) == {"_moment", "opened_at"}
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    columns = {"_moment": [moment, moment], "opened_at": [datetime(2025, 12, 31, 23, 59, 30, tzinfo=UTC), None]}
    assert evaluated(one, **columns) == [pytest.approx(30.0), None]


def test_a_request_column_may_look_like_one_of_a_view():
    class Odd(ms.Source, id="payment", time="at"):
        payment: str
        my__own: float
        at: datetime

    @ms.model(request=Odd, label=fraud, task="binary_classification", features=[(col("my__own") * 2).alias("twice")])
    def odd(train):
        return None

    assert odd.views == ()


ERRORS = [
    (lambda: Card.col("sun_1h"), "MS-D102", "card has no feature 'sun_1h'", "did you mean 'sum_1h'?"),
    (lambda: model(Shop.col("z").alias("x")), "MS-D102", "reads 'shop__z' of a feature view", "using=[…]"),
    (
        lambda: model((pl.col("shop__mean_8d") * 2).alias("x"), using=[Shop]),
        "MS-D102",
        "'shop__mean_8d'",
        "shop__mean_7d",
    ),
    (lambda: model(Card.col("last_at").alias("x"), using=[Card]), "MS-D153", "'x' is a datetime", ".dt.hour()"),
    (
        lambda: model(Card, Card.col("sum_1h"), using=[Card]),
        "MS-D152",
        "two features are named 'card__sum_1h'",
        "alias",
    ),
    (lambda: model((Card.col("sum_1h").shift(1)).alias("x"), using=[Card]), "MS-D103", "looks at other rows", "window"),
    (lambda: model((col("amount") - math.nan).alias("x")), "MS-D104", "JSON has no NaN", ".is_nan()"),
    (lambda: model((col("amount") * math.inf).alias("x")), "MS-D104", "JSON has no NaN", ".is_infinite()"),
    (lambda: model("amount", using=["card"]), "MS-D125", "'card'", ""),
]


@pytest.mark.parametrize(("made", "code", "words", "hint"), ERRORS, ids=[f"{e[1]}-{i}" for i, e in enumerate(ERRORS)])
def test_an_expression_that_cannot_be_is_refused_with_what_mends_it(made, code, words, hint):
    with pytest.raises(DefinitionError) as refused:
        made()
    assert refused.value.code == code
    assert words in refused.value.what
    assert hint in refused.value.hint


def test_a_request_column_that_is_named_as_a_views_value_is_refused():
    class Twice(ms.Source, id="payment", time="at"):
        payment: str
        card: str
        card__sum_1h: float
        at: datetime

    with pytest.raises(
        DefinitionError, match=r"MS-D152.*card__sum_1h.*is a column of twice and a feature of view card"
    ):
        ms.model(request=Twice, label=fraud, task="binary_classification", features=[Card])


def test_derived_features_are_checked_when_they_are_written():
    with pytest.raises(DefinitionError, match=r"MS-D102: feature view wrong has no column 'sum_9h'"):

        @ms.feature_view(Paid, entity="card")
        class Wrong:
            sum_1h = ms.sum("amount", window="1h")
            x = col("sum_9h") / 2

    with pytest.raises(DefinitionError, match=r"MS-D126: two features of Same are named 'top_1'"):

        @ms.feature_view(Paid, entity="card")
        class Same:
            top = ms.top_k("kind", 2)
            top_1 = col("top_2")


def test_an_expression_in_json_is_read_back_as_it_was():
    text = feature(model(Card), "card__latest_first").expression.json
    assert parse(text).meta.serialize(format="json").replace(" ", "") == text.replace(" ", "")
