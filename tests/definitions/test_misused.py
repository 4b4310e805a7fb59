"""What a word was given that it does not take is said with the field, the value and how it is written."""

import pytest

from mainspring.core.errors import DefinitionError
from mainspring.definitions import load_project
from mainspring.definitions.misused import misuse_of

HEAD = """
from datetime import datetime
import mainspring as ms
from mainspring import col

class Asked(ms.Source, id="ride", time="at"):
    ride: str
    km: float
    at: datetime

class Done(ms.Source, id="ride", time="at"):
    ride: str
    late: bool
    at: datetime

late = ms.label(Done, on="ride", value="late", within="1h", otherwise=ms.exclude)

def model(**words):
    @ms.model(request=Asked, label=late, task="binary_classification", features=["km"], **words)
    def is_late(train): ...

"""
CALLED = [
    ('ms.Cache("10s")', "ms.Cache(…) takes nothing without a name", 'ms.Cache(ttl="10s")'),
    ('ms.Latency(p98="1ms")', "ms.Latency(…) takes no p98=", "did you mean 'p99'?"),
    ("ms.override(when=1, value=2)", "ms.override(…) lacks reason=", "ms.override(when=col("),
    ("ms.override()", "lacks when= and value= and reason=", "ms.override("),
    ('ms.gate("roc_auc", 0.5)', "ms.gate(…) takes metric without a name", "at_least=0.70"),
    ("ms.label(Done)", "ms.label(…) lacks on= and value=", "ms.label("),
    ("ms.feature_view(Done)", "ms.feature_view(…) lacks entity=", "@ms.feature_view("),
    ("ms.mean()", "ms.mean(…) lacks value=", 'ms.mean("amount", window="24h")'),
    ('ms.quantile("km", window="1h")', "ms.quantile(…) lacks q=", "0.95"),
    ("class X(ms.Source): ...", "class …(ms.Source) lacks time=", "class Ride(ms.Source"),
    ("ms.model(request=Asked)", "ms.model(…) lacks label= and task= and features=", "@ms.model("),
]
KINDS = [
    ("MS-D156", "model(rules=5)", "rules= is 5, not a list", "rules=[ms.at_least(0)"),
    ("MS-D156", "model(rules=ms.at_most(1))", "not a list", "rules=[ms.at_least(0)"),
    ("MS-D156", 'ms.at_most("x")', "at_most() is 'x', not a number", "ms.at_most(100)"),
    ("MS-D156", "ms.override(when=col('km') > 1, value=1, reason=5)", "reason= is 5", 'reason="'),
    ("MS-D157", 'model(latency="10ms")', "latency= is '10ms'", 'ms.Latency(p50="5ms", p99="20ms")'),
    ("MS-D001", "ms.Latency(p99=10)", "p99=10 is not a span of time", '"3h"'),
    ("MS-D140", 'model(gates=["roc_auc"])', "gates= has 'roc_auc' in it", "gates=[ms.gate("),
    ("MS-D140", 'model(gates=ms.gate("roc_auc", at_least=0.5))', "not a list", "gates=[ms.gate("),
    ("MS-D140", 'ms.gate("roc_auc", at_least="x")', "at_least= of gate('roc_auc') is 'x'", "at_least=0.70"),
    ("MS-D141", 'model(rollout="x")', "rollout= is 'x'", "ms.Rollout("),
    ("MS-D141", "ms.Rollout(ramp=5)", "ramp= is 5, not a list", "ramp=[0.05"),
    ("MS-D141", 'ms.Rollout(ramp=["a"])', "a share of ramp= is 'a', not a number", "ramp=[0.05"),
    ("MS-D141", 'ms.Rollout(veto=["errors"])', "veto= has 'errors' in it", 'veto=[ms.guard("errors")'),
    ("MS-D141", 'ms.guard("log_loss", margin="x")', "margin= of guard('log_loss') is 'x'", "margin=0.02"),
    ("MS-D142", "model(monitor=5)", "monitor= is 5", "ms.Monitor("),
    ("MS-D142", 'ms.Monitor(retrain="1d")', "retrain= is '1d'", "ms.when_worse("),
    ("MS-D151", 'model(seed="x")', "seed= is 'x'", "seed=1"),
    ("MS-D121", "ms.feature_view(Done, entity=5)", "entity= is 5, not a list", 'entity=["carrier"]'),
    ("MS-D111", "class X(ms.Source, time=5):\n    at: datetime", "x has no column 5 for time=", "known are at"),
]


def said(tmp_path, text):
    path = tmp_path / "definitions.py"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(DefinitionError) as caught:
        load_project(path)
    assert caught.value.where.startswith(f"{path}:")
    return caught.value


@pytest.mark.parametrize(("text", "what", "hint"), CALLED, ids=[text for text, *_ in CALLED])
def test_arguments_that_a_word_does_not_take_are_named_with_its_line_and_an_example(tmp_path, text, what, hint):
    error = said(tmp_path, text)
    assert error.code == "MS-D164"
    assert what in error.what
    assert hint in error.hint
    assert int(error.where.rpartition(":")[2]) == len(HEAD.splitlines()) + 1


@pytest.mark.parametrize(("code", "text", "what", "hint"), KINDS, ids=[text for _, text, *_ in KINDS])
def test_a_value_of_another_kind_is_named_with_its_field_and_an_example(tmp_path, code, text, what, hint):
    error = said(tmp_path, text)
    assert (error.code, what in error.what, hint in error.hint) == (code, True, True), error


def test_a_mistake_that_is_of_no_word_is_pythons_to_tell():
    for error in (
        TypeError("f() missing 1 required positional argument: 'x'"),
        TypeError("Expr.mean() got an unexpected keyword argument 'window'"),
        TypeError("bad"),
        ValueError("gate()"),
    ):
        assert misuse_of(error, "x:1") is None
