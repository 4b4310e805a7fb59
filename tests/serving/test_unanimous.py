"""The usual batch, which one model answers, is told and logged as if each row had been looked at by itself."""

import math
import struct
from types import SimpleNamespace
from unittest import mock

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.ids import PredictionIds
from mainspring.definitions.values import Field, SourceDef
from mainspring.events.cells import Cells
from mainspring.events.internal import Block, CheckedRows, RowShape
from mainspring.events.record_batch import RecordBatch
from mainspring.serving.answers import Batch
from mainspring.serving.inference import BREAKER, OUTPUT, Outputs, choose
from mainspring.serving.layout import Gathered, Inputs
from mainspring.serving.log_rows import Logged, rows_of
from mainspring.serving.metrics import ModelMetrics
from mainspring.serving.reply import ListReply
from mainspring.serving.unanimous import Unanimous
from mainspring.serving.v2 import V2Reply

NOW = 1_772_366_400_000_000
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
KINDS = (st.booleans(), FLOATS, st.integers(-(2**63), 2**63 - 1), st.text(max_size=2), st.lists(FLOATS, max_size=3))


def source_of(has_id):
    fields = (Field("ride_id", "str"), Field("km", "float"), Field("asked_at", "datetime"))
    return SourceDef("ride", fields, time="asked_at", id="ride_id" if has_id else None)


@st.composite
def routes(draw):
    """Who serves, and whether its model has a text."""
    return SimpleNamespace(
        model=SimpleNamespace(
            name=draw(st.sampled_from(["late_ride", "early_ride"])), request=source_of(draw(st.booleans()))
        ),
        is_shadow=draw(st.booleans()),
        absent=draw(st.sampled_from([None, "v9"])),
        rollout=draw(st.sampled_from([None, "d9"])),
    ), draw(st.booleans())


@st.composite
def batches(draw, whose=None):
    """A batch that one model answers, by itself, before a challenger in shadow or in place of one that is absent."""
    n = draw(st.integers(1, 6))
    served, has_texts = draw(routes() if whose is None else whose)
    outputs = draw(st.lists(FLOATS, min_size=n, max_size=n))
    values = np.array(draw(st.lists(st.tuples(st.one_of(FLOATS, st.just(math.nan))), min_size=n, max_size=n)))
    values = np.column_stack([values, np.full(n, np.nan)])
    status = np.array(draw(st.lists(st.tuples(st.integers(0, 5), st.just(0)), min_size=n, max_size=n)), np.uint8)
    texts = draw(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=n, max_size=n))
    written = {1: texts} if has_texts else {}
    inputs = Inputs(("km", "zone"), values, status, np.zeros((n, 1), np.float32), np.empty((n, 0), object), written)
    champion = SimpleNamespace(version="v1"), Outputs(inputs, outputs, {}, 70)
    failed = draw(st.dictionaries(st.integers(0, n - 1), st.just((OUTPUT, "no number"))))
    left_alone = SimpleNamespace(version="v2"), Outputs(None, [math.nan] * n, dict.fromkeys(range(n), (BREAKER, "")))
    asked = SimpleNamespace(version="v2"), Outputs(inputs, outputs[::-1], failed, 50)
    rows = [(f"r{i}", float(i), NOW + i) for i in range(n)]
    gathered = Gathered(rows, (), {}, (), (), {}, draw(st.integers(7, 8)))
    ids = PredictionIds(draw(st.sampled_from("eef")), range(n))
    choices = Unanimous(draw(st.sampled_from(["champion", "champion", "challenger"])), champion)
    before, latencies = [10 * i for i in range(n)], [100] * n
    batch = Batch(served, gathered, [NOW] * n, ids, choices, [1.0] * n, ["u"] * n, before, latencies, n)
    return champion, Logged(batch, draw(st.sampled_from([None, asked, left_alone])) if served.is_shadow else None)


@st.composite
def posts(draw):
    """What is posted at once: batches of a few models, one after the other."""
    some = draw(st.lists(routes(), min_size=1, max_size=2))
    return draw(st.lists(batches(whose=st.sampled_from(some)), min_size=1, max_size=6))


def one_by_one(logged):
    """The same, with its choices as a list."""
    batch = logged.batch
    made = {name: getattr(batch, name) for name in Batch.__slots__} | {"choices": list(batch.choices)}
    return Logged(Batch(**made), logged.shadow)


def told(choices, reply):
    reply.rows(0, choices, PredictionIds("e", range(len(choices))), range(len(choices)))
    reply.finish()


@given(batches())
def test_every_row_is_answered_as_it_is_when_looked_at_alone(made):
    answerer, logged = made
    variant = logged.batch.choices.variant
    pair = {"champion": None, "challenger": None} | {variant: answerer}
    assert list(logged.batch.choices) == [choose(variant, i, pair) for i in range(len(logged))]


@given(posts(), st.integers(1, 12))
def test_the_log_gets_the_same_events_as_of_rows_that_are_looked_at_one_by_one(made, most_rows):
    batches = [logged for _, logged in made]
    with mock.patch("mainspring.serving.log_rows.MOST_ROWS", most_rows):
        whole, single = rows_of(batches), rows_of([one_by_one(logged) for logged in batches])
    names = dict.fromkeys(logged.batch.served.model.name for logged in batches)
    by_model = [logged for name in names for logged in batches if logged.batch.served.model.name == name]
    predictions = [logged.prediction(i) for logged in by_model for i in range(len(logged))]
    for found in (whole, single):
        rows = [row for part in found.batches if not part.shape for row in part.rows()]
        assert [list(map(bits, row)) for row in rows] == [list(map(bits, row)) for row in predictions]
    asked = [[row for part in found.batches if part.shape for row in part.rows()] for found in (whole, single)]
    assert asked[0] == asked[1]


@given(batches())
def test_requests_without_an_id_are_no_events(made):
    _, logged = made
    found = rows_of([logged])
    source = logged.batch.served.model.request
    rows = [row for part in found.batches if part.shape for row in part.rows()]
    assert rows == ([] if source.id is None else list(logged.batch.gathered.rows))


@given(batches())
def test_clients_are_told_the_same_in_json_and_in_tensors(made):
    choices = made[1].batch.choices
    n = len(choices)
    bodies, outcomes = [], []
    for given_choices in (choices, list(choices)):
        reply = ListReply(places=range(n), answers=[b""] * n, shows_status=False)
        told(given_choices, reply)
        bodies.append(reply.response.body)
        told(given_choices, V2Reply(outcomes.append, SimpleNamespace(cancelled=False)))
    assert bodies[0] == bodies[1]
    assert [row["prediction"] for row in msgspec.json.decode(bodies[0])] == choices.outputs
    assert repr(outcomes[0]) == repr(outcomes[1])


@given(batches(), st.data())
def test_a_list_is_answered_in_its_order_whatever_came_in_between_and_in_how_many_batches(made, data):
    choices = made[1].batch.choices
    n = len(choices)
    ids, middle = PredictionIds("e", range(7, 7 + n)), data.draw(st.integers(0, n))
    bad = data.draw(st.sets(st.integers(0, n), max_size=2))
    places = [place for place in range(n + len(bad)) if place not in bad]
    bodies = []
    for given_choices in (choices, list(choices)):
        answers = [b'{"error":"%d"}' % place if place in bad else b"" for place in range(n + len(bad))]
        reply = ListReply(places=places, answers=answers, shows_status=False)
        for at in (range(middle), range(middle, n)):
            if at:
                reply.rows(at.start, given_choices, ids, at)
        reply.finish()
        bodies.append(reply.response.body)
    assert bodies[0] == bodies[1]
    assert [row.get("prediction_id", "bad") for row in msgspec.json.decode(bodies[0])] == [
        "bad" if place in bad else ids[places.index(place)] for place in range(n + len(bad))
    ]


@given(batches())
def test_they_are_counted_the_same(made):
    choices = made[1].batch.choices
    whole, single = ModelMetrics("m"), ModelMetrics("m")
    whole.told(choices)
    single.told(list(choices))
    variant = choices.variant
    assert whole.variants[variant].requests == single.variants[variant].requests == len(choices)


def test_rows_whose_client_has_been_told_something_else_are_not_logged():
    inputs = Inputs(
        ("km",), np.zeros((3, 1)), np.zeros((3, 1), np.uint8), np.zeros((3, 1)), np.empty((3, 0), object), {}
    )
    choices = list(Unanimous("champion", (SimpleNamespace(version="v1"), Outputs(inputs, [0.1, 0.2, 0.3]))))
    served = SimpleNamespace(
        model=SimpleNamespace(name="m", request=source_of(has_id=True)), is_shadow=False, absent=None, rollout=None
    )
    gathered = Gathered([(f"r{i}", 1.0, NOW) for i in range(3)], (), {}, (), (), {}, 7)
    ids, told = PredictionIds("e", range(3)), [choices[0], None, choices[2]]
    batch = Batch(served, gathered, [NOW] * 3, ids, told, [1.0] * 3, ["u"] * 3, [1] * 3, [2] * 3, 1)
    found = rows_of([Logged(batch, None)])
    rows = [row for part in (*found.blocks, *found.batches) for row in part.rows()]
    assert [row[0] for row in rows] == ["r0", "r2", "e-0", "e-2"]
    nobody = Batch(served, gathered, [NOW], PredictionIds("e", [7]), [None], [1.0], ["u"], [1], [2], 1)
    assert rows_of([Logged(nobody, None)]).count == 0


@st.composite
def columns_of_a_kind(draw):
    n = draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    return [draw(st.lists(st.one_of(st.none(), kind), min_size=n, max_size=n)) for kind in kinds]


@given(columns_of_a_kind())
def test_a_block_has_its_rows_to_the_last_bit_before_and_after_the_wire(columns):
    rows = list(zip(*columns, strict=True))
    found = CheckedRows((RowShape("s", "1", ("a", "b")),), [Block.of(0, rows)])
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=CheckedRows)
    assert [list(map(bits, row)) for row in sent.blocks[0].rows()] == [list(map(bits, row)) for row in rows]


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 7))
def test_halves_are_the_whole_in_its_order(first, second, third):
    blocks = [Block.of(k, [(i, "same") for i in range(n)]) for k, n in enumerate((first, second))]
    batches = RecordBatch.several(2, [(third, [Cells.ints(range(third)), Cells.same("same")])] if third else [])

    def parts(found):
        halves = found.halves()
        return [found] if halves is None else [*parts(halves[0]), *parts(halves[1])]

    ends = parts(CheckedRows((), blocks, batches))
    assert all(end.count < 2 for end in ends)
    rows = [(part.shape, *row) for end in ends for part in (*end.blocks, *end.batches) for row in part.rows()]
    assert rows == [(part.shape, *row) for part in (*blocks, *batches) for row in part.rows()]


def bits(value):
    """A value so that 0.0 and -0.0, 1 and True are not the same."""
    if isinstance(value, list):
        return [bits(one) for one in value]
    return (type(value), struct.pack("<d", value) if isinstance(value, float) else value)
