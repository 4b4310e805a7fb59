"""Each thing that a definitions file may not say: the error's code, words, hint, and the line that it points at."""

import re
import textwrap

import pytest

from mainspring.core.errors import DefinitionError
from mainspring.definitions import load_project

HEAD = """
from datetime import datetime
from typing import Annotated
import mainspring as ms
from mainspring import col

class Asked(ms.Source, id="ride", time="asked_at"):
    ride: str
    city: str
    km: float
    asked_at: datetime

class Done(ms.Source, id="ride", time="done_at"):
    ride: str
    city: str
    minutes: float
    paid: int | None
    done_at: datetime

class Counted(ms.Source, time="at"):
    ride: int
    city: int
    at: datetime

late = ms.label(Done, on="ride", value=col("minutes") > 30, within="1d", otherwise=False)

@ms.feature_view(Done, entity="city")
class City:
    minutes_1h = ms.mean("minutes", window="1h")

@ms.feature_view(Counted, entity="city")
class Numbered:
    n = ms.count(window="1h")

def fit(train):
    return None
"""
MODEL = 'ms.model(request=Asked, label=late, task="binary_classification", features=["km"]{more})(fit)  # <-'

COMPOSED = """
def a(train): ...
def b(train): ...
def c(train): ...
def n(train): ...
def m(train): ...
def other(train): ...
def later(train): ...

class Also(ms.Source, id="ride", time="asked_at"):
    ride: str
    km: float
    asked_at: datetime

number = ms.label(Done, on="ride", value="minutes", within="1d", otherwise=0.0)
late_2d = ms.label(Done, on="ride", value=col("minutes") > 30, within="2d", otherwise=False)

def model(fit, request=Asked, label=late, task="binary_classification"):
    return ms.model(request=request, label=label, task=task, features=["km"])(fit)

a, b, other, later = model(a), model(b), model(other, Also), model(later, label=late_2d)
n, m = (model(one, label=number, task="regression") for one in (n, m))
"""

# code, what the file says (the line with `# <-` is the one to be named), words of the error, words of the hint
CASES = [
    ("MS-D001", 'ms.label(Done, on="ride", value="minutes", within="soon", otherwise=1)', "'soon' is not a span", "3h"),
    (
        "MS-D001",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    m = ms.count()\n    n = ms.count(window="-1h")  # <-',
        "window='-1h' of V.n is not a span of time",
        '"1h"',
    ),
    (
        "MS-D001",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.count(window="2000000d")  # <-',
        "window='2000000d' of V.n is longer than 100 years",
        "a window that is left out",
    ),
    ("MS-D001", 'ms.Rollout(shadow="a day")  # <-', "shadow='a day' is not a span", "3h"),
    ("MS-D001", "ms.Monitor(every=3)  # <-", "every=3 is not a span", "3h"),
    ("MS-D001", 'ms.every("daily")  # <-', "every('daily') is not a span", "3h"),
    (
        "MS-D001",
        'class Ride(ms.Source, time="at", dedup="week"):  # <-\n    at: datetime',
        "dedup='week' of ride is not a span",
        "3h",
    ),
    (
        "MS-D102",
        '@ms.feature_view(\n    Done,\n    entity="city",\n)\nclass V:\n    x = col("m")  # <-\n    n = ms.count()',
        "feature view v has no column 'm'",
        "known are",
    ),
    (
        "MS-D102",
        MODEL.replace("  # <-", "").replace('["km"]', '[\n    City,\n    "kms",  # <-\n]').format(more=""),
        "request asked has no column 'kms'",
        "did you mean 'km'?",
    ),
    (
        "MS-D104",
        MODEL.replace('["km"]', '["km", late]').format(more=""),
        "a label (on done) is no feature",
        "label= takes it",
    ),
    (
        "MS-D104",
        MODEL.replace('["km"]', '[ms.mean("km", window="1h")]').format(more=""),
        "an aggregate (ms.mean) is no feature",
        "@ms.feature_view",
    ),
    (
        "MS-D102",
        'ms.label(Done, on="rid", value="minutes", within="1d", otherwise=1)  # <-',
        "no column 'rid' for on=",
        "did you mean 'ride'?",
    ),
    (
        "MS-D102",
        'ms.label(Done, on="ride", value="minuts", within="1d", otherwise=1)  # <-',
        "source done has no column 'minuts'",
        "did you mean 'minutes'?",
    ),
    (
        "MS-D102",
        '@ms.feature_view(Done, entity="town")  # <-\nclass V:\n    n = ms.count()',
        "no column 'town' for entity=",
        "known are city",
    ),
    (
        "MS-D102",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.sum("minute")  # <-',
        "source done has no column 'minute'",
        "did you mean 'minutes'?",
    ),
    (
        "MS-D102",
        MODEL.replace('"km"', '"kms"').format(more=""),
        "request asked has no column 'kms'",
        "did you mean 'km'?",
    ),
    (
        "MS-D102",
        MODEL.replace(
            "=late", '=ms.label(Done, on="paid", value=col("minutes") > 1, within="1d", otherwise=True)'
        ).format(more=""),
        "has no column 'paid', the label's on=",
        "known are",
    ),
    (
        "MS-D103",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.mean(col("minutes").shift(-1), window="1h")  # <-',
        "looks at other rows",
        "feature view with a window",
    ),
    (
        "MS-D103",
        MODEL.replace('"km"', 'col("km") - col("km").mean()').format(more=""),
        "looks at other rows",
        "ms.mean",
    ),
    (
        "MS-D104",
        'ms.label(Done, on="ride", value=3, within="1d", otherwise=1)  # <-',
        "3 is neither a column's name nor an expression",
        "",
    ),
    (
        "MS-D104",
        'ms.label(Done, on="ride", value=col("city").dt.hour(), within="1d", otherwise=1)  # <-',
        "does not fit source done",
        "",
    ),
    (
        "MS-D104",
        'ms.label(Done, on="ride", value=col("city").str.split(","), within="1d", otherwise=1)  # <-',
        "gives List(String), which is none of str",
        "",
    ),
    (
        "MS-D105",
        MODEL.replace('"km"', 'col("km").map_batches(abs, return_dtype=float)').format(more=""),
        "calls a Python function",
        "polars' own functions",
    ),
    (
        "MS-D105",
        MODEL.replace('"km"', 'col("km") + ms.lit(1.0).map_batches(abs, return_dtype=float)').format(more=""),
        "calls a Python function",
        "polars' own functions",
    ),
    (
        "MS-D110",
        'class Ride(ms.Source, time="at", name="Ride!"):  # <-\n    at: datetime',
        "'Ride!' is no name for a source",
        "a-z",
    ),
    (
        "MS-D110",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    Fare: int',
        "'Fare' is no name for a column",
        "no leading _",
    ),
    (
        "MS-D110",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    _fare: int',
        "'_fare' is no name for a column",
        "no leading _",
    ),
    (
        "MS-D110",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n__m = ms.count()  # <-',
        "'n__m' is no name for a feature",
        "single _",
    ),
    (
        "MS-D110",
        "def Fit(train):\n    return None\n" + MODEL.replace("(fit)", "(Fit)").format(more=""),
        "'Fit' is no name for a model",
        "a-z",
    ),
    (
        "MS-D111",
        'class Ride(ms.Source, time="when"):  # <-\n    at: datetime',
        "ride has no column 'when' for time=",
        "known are at",
    ),
    (
        "MS-D111",
        'class Ride(ms.Source, time="at", id="ide"):  # <-\n    at: datetime\n    id: str',
        "no column 'ide' for id=",
        "did you mean 'id'?",
    ),
    (
        "MS-D111",
        'class Ride(ms.Source, time="at", known_at="seen"):  # <-\n    at: datetime',
        "no column 'seen' for known_at=",
        "at",
    ),
    ("MS-D112", 'class Ride(ms.Source, time="at"):  # <-\n    at: str', "time='at' of ride must be a datetime", ""),
    (
        "MS-D112",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime | None',
        "time='at' of ride must be a datetime, never None",
        "",
    ),
    (
        "MS-D112",
        'class Ride(ms.Source, time="at", id="n"):  # <-\n    at: datetime\n    n: float',
        "id='n' of ride must be str or int",
        "",
    ),
    (
        "MS-D112",
        'class Ride(ms.Source, time="at", id="n"):  # <-\n    at: datetime\n    n: str | None',
        "id='n' of ride must be str or int, never None",
        "",
    ),
    ("MS-D113", 'class Ride(ms.Source, time="at"):  # <-\n    pass', "Ride has no columns", "annotate them"),
    (
        "MS-D113",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    tags: list[str]',
        "Ride.tags has type list[str]",
        "a column for each part",
    ),
    (
        "MS-D113",
        'class Ride(ms.Source, time="at"):  # <-\n    at: "Moment"',
        "name 'Moment' is not defined",
        "import the type",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[str, ms.between(1, 2)]',
        "Ride.n: between(1, 2) cannot hold",
        "",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[int, ms.between(2, 1)]',
        "between(2, 1) cannot hold",
        "",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[str, ms.one_of("a", "a")]',
        "one_of('a', 'a') cannot hold",
        "",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[str, ms.pattern("(")]',
        "pattern('(') cannot hold",
        "",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[str, ms.length(3, 2)]',
        "length(3, 2) cannot hold",
        "",
    ),
    (
        "MS-D114",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: int = "x"',
        "default 'x' of Ride.n is no int",
        "",
    ),
    (
        "MS-D115",
        'class Ride(ms.Source, time="at", corrects="n"):  # <-\n    at: datetime\n    n: str',
        "says corrects= and has no id=",
        "",
    ),
    (
        "MS-D115",
        'class Ride(ms.Source, id="n", time="at", corrects="op"):  # <-\n    at: datetime\n    n: str',
        "corrects='op' of ride must be a str column",
        "ms.one_of(",
    ),
    (
        "MS-D116",
        'class Ride(ms.Source, time="at"):  # <-\n    at: datetime\n    n: Annotated[str, ms.alias("at")]',
        "ride.n: alias('at') is a name of at",
        "",
    ),
    (
        "MS-D117",
        'class Ride(ms.Source, time="at", keep="12h"):  # <-\n    at: datetime',
        "a source keeps a day at least",
        "",
    ),
    (
        "MS-D125",
        '@ms.feature_view(Done, entity="city", using=[Done])  # <-\nclass V:\n    n = ms.count()',
        "which is no feature view",
        "",
    ),
    (
        "MS-D125",
        '@ms.feature_view(Done, entity="city", using=City)  # <-\nclass V:\n    n = ms.count()',
        "using= is the feature view city, not a list",
        "using=[…]",
    ),
    (
        "MS-D125",
        MODEL.format(more=", using=City"),
        "using= is the feature view city, not a list",
        "using=[…]",
    ),
    ("MS-D152", MODEL.replace('["km"]', "City").format(more=""), "features= is the feature view city", "features=[…]"),
    ("MS-D152", MODEL.replace('["km"]', '"km"').format(more=""), "features= is 'km', not a list", "features=[…]"),
    (
        "MS-D126",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.last_k("minutes", 2)\n    n_1 = ms.count()  # <-',
        "two features of V are named 'n_1'",
        "",
    ),
    (
        "MS-D120",
        'ms.label("done", on="ride", value="minutes", within="1d", otherwise=1)  # <-',
        "the first argument of label is 'done', not a source",
        "class Name(ms.Source",
    ),
    (
        "MS-D120",
        "@ms.feature_view(City, entity='city')  # <-\nclass V:\n    n = ms.count()",
        "the first argument of feature_view",
        "ms.Source",
    ),
    (
        "MS-D121",
        "@ms.feature_view(Done, entity=[])  # <-\nclass V:\n    n = ms.count()",
        "entity= needs one or more",
        "",
    ),
    (
        "MS-D121",
        '@ms.feature_view(Done, entity=["city", "city"])  # <-\nclass V:\n    n = ms.count()',
        "different columns",
        "",
    ),
    (
        "MS-D121",
        '@ms.feature_view(Done, entity="minutes")  # <-\nclass V:\n    n = ms.count()',
        "entity 'minutes' is float",
        "",
    ),
    (
        "MS-D122",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = 3  # <-',
        "V.n is 3, not an aggregate",
        "ms.count",
    ),
    (
        "MS-D122",
        '@ms.feature_view(Done, entity="city")  # <-\nclass V:\n    pass',
        "feature view V has no features",
        "",
    ),
    (
        "MS-D123",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.mean("city")  # <-',
        "V.n aggregates str; mean needs numbers",
        "",
    ),
    (
        "MS-D123",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.count(where=col("minutes"))  # <-',
        "where= of V.n is float, not bool",
        "",
    ),
    (
        "MS-D124",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.count(window="0s")  # <-',
        "window='0s' of V.n must be longer than nothing",
        "",
    ),
    (
        "MS-D124",
        '@ms.feature_view(Done, entity="city")\nclass V:\n    n = ms.last("minutes", ttl="0s")  # <-',
        "ttl='0s' of V.n must be longer than nothing",
        "",
    ),
    (
        "MS-D130",
        'ms.label(Done, on="ride", value="minutes", otherwise=1)  # <-',
        "a label needs a horizon",
        'within="36h"',
    ),
    (
        "MS-D130",
        'ms.label(Done, on="ride", value="minutes", within="1d")  # <-',
        "a label needs otherwise=",
        "ms.exclude",
    ),
    (
        "MS-D130",
        'ms.label(Done, on="ride", value="minutes", within="0s", otherwise=1)  # <-',
        "within='0s' must be longer than nothing",
        'within="36h"',
    ),
    (
        "MS-D131",
        'ms.label(Done, on="ride", value="city", within="1d", otherwise=1)  # <-',
        "value= is str; a label is a bool or a number",
        "",
    ),
    (
        "MS-D131",
        'ms.label(Done, on="ride", value="minutes", within="1d", otherwise="none")  # <-',
        "otherwise='none' is neither ms.exclude nor a number",
        "",
    ),
    ("MS-D140", 'ms.gate("roc_auc")  # <-', "gate('roc_auc') needs one of at_least=", ""),
    ("MS-D140", 'ms.gate("roc_auc", beats="mine")  # <-', "beats='mine'", '"champion" or "baseline"'),
    (
        "MS-D140",
        MODEL.format(more=', gates=[ms.gate("auc", at_least=1)]'),
        "gate 'auc' is not for binary_classification",
        "did you mean 'roc_auc'?",
    ),
    ("MS-D141", "ms.Rollout(ramp=[0.5, 0.1])  # <-", "must rise between 0 and 1", "ramp=[0.05, 0.25, 0.5]"),
    ("MS-D141", "ms.Rollout(ramp=[0.5, 1.0])  # <-", "must rise between 0 and 1", ""),
    ("MS-D141", 'ms.Rollout(limit="4d")  # <-', "limit='4d' is up before the rollout can be over", "a longer limit="),
    ("MS-D141", 'ms.Rollout(shadow="57d")  # <-', "limit='60d' is up before the rollout can be over", ""),
    ("MS-D141", "ms.Rollout(alpha=0.7)  # <-", "alpha=0.7 must lie between 0 and 0.5", ""),
    ("MS-D141", 'ms.Rollout(prove=[ms.guard("log_loss")])  # <-', "prove: guard('log_loss') needs margin=", ""),
    ("MS-D141", 'ms.Rollout(veto=[ms.guard("error")])  # <-', "veto: 'error' is not known", "did you mean 'errors'?"),
    (
        "MS-D141",
        MODEL.format(more=', rollout=ms.Rollout(prove=[ms.guard("absolute_error", margin=1)])'),
        "prove: 'absolute_error' is no loss of binary_classification",
        "log_loss",
    ),
    (
        "MS-D142",
        'ms.when_worse("log_loss", by=0.1, than="champion")  # <-',
        "when_worse(than='champion')",
        'than="baseline"',
    ),
    ("MS-D142", 'ms.when_worse("log_loss", by=0)  # <-', "when_worse(by=0) must be above 0", ""),
    (
        "MS-D142",
        MODEL.format(more=', monitor=ms.Monitor(retrain=ms.when_worse("loss", by=1))'),
        "when_worse('loss') is no loss",
        "did you mean",
    ),
    ("MS-D142", MODEL.format(more=', monitor=ms.Monitor(every="1s")'), "once a minute at most", 'every="1d"'),
    ("MS-D150", MODEL.replace("=late", "=Done").format(more=""), "label= is", "ms.label("),
    (
        "MS-D150",
        MODEL.replace(
            "=late", '=ms.label(Counted, on="ride", value=col("city") > 1, within="1d", otherwise=False)'
        ).format(more=""),
        "'ride' has another type in asked and counted",
        "",
    ),
    (
        "MS-D151",
        MODEL.replace("binary_classification", "classification").format(more=""),
        "task='classification'",
        "did you mean 'binary_classification'?",
    ),
    (
        "MS-D151",
        MODEL.replace("=late", '=ms.label(Done, on="ride", value="minutes", within="1d", otherwise=0.0)').format(
            more=""
        ),
        "binary_classification needs a bool label",
        "value=col",
    ),
    (
        "MS-D152",
        MODEL.replace('["km"]', '["km", (col("km") * 2).alias("km")]').format(more=""),
        "two features are named 'km'",
        ".alias",
    ),
    ("MS-D152", MODEL.replace('["km"]', "[]").format(more=""), "a model needs at least one feature", ""),
    (
        "MS-D153",
        MODEL.replace('["km"]', "[Numbered]").format(more=""),
        "'city' has another type in asked and counted",
        "",
    ),
    (
        "MS-D153",
        MODEL.replace('["km"]', '[col("asked_at")]').format(more=""),
        "feature 'asked_at' is a datetime",
        ".dt.hour()",
    ),
    (
        "MS-D153",
        MODEL.replace('["km"]', '["asked_at"]').format(more=""),
        "feature 'asked_at' is a datetime",
        ".dt.hour()",
    ),
    (
        "MS-D154",
        MODEL.replace("=Asked", "=Done").replace('"km"', '(col("minutes") * 2).alias("double")').format(more=""),
        "feature 'double' comes from the future",
        "",
    ),
    (
        "MS-D154",
        MODEL.replace("=Asked", "=Done").replace('"km"', '"minutes"').format(more=""),
        "feature 'minutes' comes from the future",
        "",
    ),
    (
        "MS-D155",
        MODEL.format(more=", otherwise=ms.otherwise(value=1.5)"),
        "otherwise(value=1.5) is no answer",
        "",
    ),
    (
        "MS-D155",
        MODEL.format(more=', otherwise=ms.otherwise(value="review")'),
        "otherwise(value='review') is no answer",
        'a number, or a rule over the request: ms.when(col("amount") < 50).then(0.0).otherwise(1.0)',
    ),
    (
        "MS-D155",
        MODEL.format(more=', otherwise=ms.otherwise(value=ms.lit("no"))'),
        "otherwise(value=…) gives str, but a prediction is a number",
        "0.0 for no, 1.0 for yes: a client reads it as it reads the model's probability",
    ),
    ("MS-D159", MODEL.format(more=', cache="10s"'), "cache= is '10s'", 'ms.Cache(ttl="10s")'),
    ("MS-D159", MODEL.format(more=', cache=ms.Cache(ttl="0s")'), "Cache(ttl='0s')", 'ms.Cache(ttl="10s")'),
    ("MS-D159", 'ms.Cache(ttl="10s", max_bytes=1e6)  # <-', "Cache(max_bytes=1000000.0)", "max_bytes=64_000_000"),
    ("MS-D001", 'ms.Cache(ttl="soon")  # <-', "ttl='soon' is not a span", "3h"),
    ("MS-D110", COMPOSED + 'ms.cascade("Fast one", a, b)  # <-', "is no name for a cascade", "ms.cascade("),
    (
        "MS-D158",
        COMPOSED + 'ms.cascade("fast", a, fit)  # <-',
        "cascade fast: the function fit",
        "@ms.model",
    ),
    ("MS-D158", COMPOSED + 'ms.ensemble("both", a)  # <-', "ensemble both has fewer than two members", "two models"),
    ("MS-D158", COMPOSED + 'ms.ensemble("both", a, b, a)  # <-', "ensemble both: a is there twice", ""),
    ("MS-D158", COMPOSED + 'ms.ensemble("b", a, b)  # <-', "ensemble b is named like its member", "another name"),
    (
        "MS-D158",
        COMPOSED + 'both = ms.ensemble("both", a, b)\nms.cascade("fast", both, a)  # <-',
        "cascade fast: both is a composite itself",
        "",
    ),
    ("MS-D158", COMPOSED + 'ms.cascade("fast", a, other)  # <-', "fast: other has another request", "the request of a"),
    ("MS-D158", COMPOSED + 'ms.cascade("fast", a, later)  # <-', "fast: later has another label", "the label of a"),
    ("MS-D158", COMPOSED + 'ms.cascade("fast", a, b, sure=0.5)  # <-', "sure=0.5 is not above 0.5", "sure=0.95"),
    ("MS-D158", COMPOSED + 'ms.cascade("fast", a, b, within="0ms")  # <-', "within='0ms' leaves no time", '"20ms"'),
    ("MS-D158", COMPOSED + 'ms.cascade("fast", n, m, sure=0.9)  # <-', "sure= of a regression", 'within="20ms"'),
    ("MS-D158", COMPOSED + 'ms.ensemble("e", n, m, how="vote")  # <-', "members of a regression have no vote", "mean"),
    ("MS-D158", COMPOSED + 'ms.ensemble("e", a, b, how="sum")  # <-', "how='sum'", "known are mean, stack, vote"),
    ("MS-D158", COMPOSED + 'ms.ensemble("e", a, b, latency="9ms")  # <-', "latency= is '9ms'", "ms.Latency("),
    ("MS-D158", COMPOSED + 'ms.ensemble("e", a, b, how="men")  # <-', "how='men'", "did you mean 'mean'?"),
    (
        "MS-D162",
        COMPOSED + 'x = ms.ensemble("c", a, b)  # <-\nc = model(c)',
        "a model and a composite are named 'c'",
        "",
    ),
    ("MS-D156", MODEL.format(more=", rules=[0]"), "rules= has 0 in it", "ms.at_least(0)"),
    ("MS-D156", MODEL.format(more=", rules=[ms.at_most(2)]"), "rule 'at most 2' answers 2", ""),
    (
        "MS-D156",
        MODEL.format(more=', rules=[ms.override(when=col("km"), value=1, reason="far")]'),
        "override(when=…) gives float, not true or false",
        "when=",
    ),
    (
        "MS-D156",
        MODEL.format(more=', rules=[ms.override(when=col("km") > 3, value=1, reason=" ")]'),
        "an override needs its reason",
        "reason=",
    ),
    ("MS-D157", 'ms.Latency(p50="5ms", p99="4ms")  # <-', "a latency budget rises", "ms.Latency("),
    ("MS-D157", "ms.Latency()  # <-", "a latency budget rises", "ms.Latency("),
    ("MS-D155", MODEL.format(more=", otherwise=0.5"), "otherwise= is 0.5", "ms.otherwise("),
    (
        "MS-D102",
        MODEL.format(more=', otherwise=ms.otherwise(value=col("kmm") > 3)'),
        "request asked has no column 'kmm'",
        "did you mean 'km'?",
    ),
    (
        "MS-D104",
        MODEL.replace('"km"', '"km", Done').format(more=""),
        "Done is a source, not a feature",
        "make a feature view of it: @ms.feature_view(Done, entity=…)",
    ),
    ("MS-D164", "ms.Cache()  # <-", "ms.Cache(…) lacks ttl=", 'ms.Cache(ttl="10s")'),
    ("MS-D161", "1 / 0  # <-", "does not run: ZeroDivisionError", ""),
    ("MS-D161", "def broken(:  # <-", "does not run: SyntaxError", ""),
    ("MS-D161", "import no_such_module  # <-", "does not run: ModuleNotFoundError", ""),
    (
        "MS-D162",
        'class Again(ms.Source, time="at", name="done"):  # <-\n    at: datetime',
        "two sources are named 'done'",
        "",
    ),
    (
        "MS-D162",
        'other = City\n@ms.feature_view(Counted, entity="city")\nclass City:\n    n = ms.count()',
        "two feature views are named 'city'",
        "",
    ),
]


@pytest.mark.parametrize(("code", "says", "words", "hint"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_an_error_says_what_where_and_how_to_mend_it(tmp_path, code, says, words, hint):
    path = tmp_path / "definitions.py"
    text = HEAD + "\n" + textwrap.dedent(says) + "\n"
    path.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_project(path)
    error = caught.value
    assert error.code == code
    assert words in error.what
    assert hint in error.hint
    marked = [number for number, line in enumerate(text.splitlines(), start=1) if "# <-" in line]
    for number in marked:
        assert error.where == f"{path}:{number}"


def test_every_code_of_the_definitions_room_has_a_case(root):
    raised = set()
    for file in (root / "src" / "mainspring" / "definitions").glob("*.py"):
        raised |= set(re.findall(r'Error\(\s*"(MS-D\d+)"', file.read_text()))
    tested = {case[0] for case in CASES} | {"MS-D160", "MS-D163", "MS-D170", "MS-D171", "MS-D180"}
    assert raised <= tested
