"""Amendments of accepted events: what is sent, what is left alone, and what is refused."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mainspring.core.errors import ConfigError, RefusedError
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events import Contract, Draft, Log
from mainspring.events.amending import Amendment, check_amendment, planned
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.loop.mends import ranges

FIELDS = (
    Field("payment_id", "str"),
    Field("amount", "float", constraints=(Constraint("between", (0, 10_000)),)),
    Field("card", "str", nullable=True),
    Field("op", "str", default="insert", has_default=True),
    Field("paid_at", "datetime"),
)
PAID = SourceDef("paid", FIELDS, time="paid_at", id="payment_id", corrects="op")
PLAIN = SourceDef("paid", FIELDS, time="paid_at", id="payment_id")
STAMPED_FIELDS = (*FIELDS, Field("changed_at", "datetime"))
STAMPED = SourceDef("paid", STAMPED_FIELDS, time="paid_at", id="payment_id", corrects="op", known_at="changed_at")
START_US = 1_362_139_200_000_000
WINDOW = (START_US + 10_000_000, START_US + 20_000_000)
CENTS = Amendment(compute={"amount": "amount / 100"})


class World:
    """Payments in a log: what is sent is known a second after what came before."""

    def __init__(self, root, clock):
        self.clock = clock
        self.clock.set(START_US)
        self.log = Log.open(root / "log", 1 << 26, writable=True)
        self.earlier = []
        self.history = History(Project({"paid": PAID}, {}, {}), self.log, Lake(root / "lake"))

    def send(self, *rows):
        for ident, op, amount in rows:
            self.clock.set(self.clock.now_us() + 1_000_000)
            values = (ident, amount, None if op == "delete" else "c", op, START_US)
            assert self.log.append([Draft(PAID, values)], self.clock)[0].status == "accepted"

    def until(self, second):
        self.clock.set(START_US + second * 1_000_000)

    def plan(self, amendment, until_us=None):
        self.history.catch_up()
        now_us = self.clock.now_us()
        window = (WINDOW[0], min(WINDOW[1], until_us or now_us))
        return planned(self.history.frame("paid"), Contract(PAID), window, amendment, self.earlier, now_us)

    def mend(self, amendment):
        """Send what it comes to, and note it as made."""
        until_us = self.clock.now_us()
        found = self.plan(amendment)
        contract = Contract(PAID)
        for change in found.changes:
            row = contract.check(change.event)
            assert self.log.append([Draft(PAID, row)], self.clock)[0].status == "accepted"
        self.earlier.append((amendment, ranges(self.plan(amendment, until_us).done)))
        return found

    def says(self):
        """What holds now, by id."""
        self.history.catch_up()
        frame = self.history.frame("paid")
        held = frame.filter(pl.col("_until_known_at").is_null())
        return dict(zip(held["_id"].to_list(), held["amount"].to_list(), strict=True))


@pytest.fixture
def world(tmp_path, clock):
    found = World(tmp_path, clock)
    yield found
    found.log.close()


def test_events_of_the_window_are_computed_anew_and_others_are_not(world):
    world.send(("before", "insert", 1.0))
    world.until(10)
    world.send(("a", "insert", 500.0), ("b", "insert", 0.0))
    world.until(30)
    world.send(("after", "insert", 700.0))
    found = world.mend(CENTS)
    assert [(c.ident, c.columns) for c in found.changes] == [("a", {"amount": (500.0, 5.0)})]
    assert (found.unchanged, found.later, found.done) == (1, 0, ())
    assert world.says() == {"before": 1.0, "a": 5.0, "b": 0.0, "after": 700.0}


def test_the_same_again_changes_nothing_and_another_of_the_column_begins_from_what_came(world):
    world.until(10)
    world.send(("a", "insert", 500.0))
    world.until(30)
    world.mend(CENTS)
    again = world.mend(CENTS)
    assert (again.changes, len(again.done)) == ((), 1)
    tenths = Amendment(compute={"amount": "amount / 10"})
    (change,) = world.mend(tenths).changes
    assert change.columns == {"amount": (5.0, 50.0)}
    assert world.says() == {"a": 50.0}
    elsewhere = world.mend(Amendment(compute={"amount": "amount / 10"}, where="amount > 1000"))
    assert (elsewhere.changes, elsewhere.done, elsewhere.unchanged) == ((), (), 1)
    assert world.says() == {"a": 50.0}
    (back,) = world.mend(Amendment(restore=True)).changes
    assert (back.operation, back.columns) == ("restored", {"amount": (50.0, 500.0)})
    assert world.says() == {"a": 500.0}


def test_what_a_mend_sent_is_no_event_of_a_later_window(world):
    world.until(10)
    world.send(("a", "insert", 500.0))
    world.until(15)
    world.mend(CENTS)
    world.until(30)
    again = world.mend(CENTS)
    assert (again.changes, len(again.done)) == ((), 1)
    assert world.says() == {"a": 5.0}


def test_what_was_sent_and_not_noted_is_found_by_the_same_mend_and_left_alone_by_another(world):
    world.until(10)
    world.send(("a", "insert", 500.0))
    world.until(30)
    world.mend(Amendment(set={"card": None}))
    world.mend(CENTS)
    world.earlier.pop()
    assert (world.plan(CENTS).changes, len(world.plan(CENTS).done)) == ((), 1)
    assert world.plan(Amendment(compute={"amount": "amount / 10"})).later == 1


def test_what_was_sent_and_not_noted_within_the_window_itself_is_not_mended_again(world):
    world.until(10)
    world.send(("a", "insert", 500.0))
    world.until(15)
    world.mend(Amendment(set={"card": None}))
    world.mend(CENTS)
    world.earlier.pop()
    world.until(30)
    again = world.mend(CENTS)
    assert (again.changes, len(again.done)) == ((), 1)
    assert world.says() == {"a": 5.0}
    assert world.plan(Amendment(restore=True)).changes[0].columns == {"amount": (5.0, 500.0), "card": (None, "c")}


def test_a_row_that_a_mend_withdrew_stays_so_until_it_is_restored(world):
    world.send(("old", "insert", 1.0))
    world.until(10)
    world.send(("old", "update", 100.0), ("new", "insert", 200.0), ("gone", "insert", 80.0), ("gone", "delete", 80.0))
    world.until(30)
    (first, second) = world.mend(Amendment(withdraw=True, where="amount > 50")).changes
    assert (first.operation, first.held, first.holds, first.columns) == ("withdrawn", True, True, {"amount": (100, 1)})
    assert (second.operation, second.held, second.holds, second.columns) == ("withdrawn", True, False, {})
    found = world.mend(CENTS)
    assert (found.changes, found.withdrawn, found.unchanged) == ((), 2, 1)
    assert world.says() == {"old": 1.0}
    changes = world.mend(Amendment(restore=True)).changes
    assert [(c.ident, c.operation, c.held, c.holds) for c in changes] == [
        ("old", "restored", True, True),
        ("new", "restored", False, True),
    ]
    assert world.says() == {"old": 100.0, "new": 200.0}
    assert world.mend(Amendment(restore=True)).changes == ()
    assert len(world.mend(CENTS).changes) == 2
    assert world.says() == {"old": 1.0, "new": 2.0}


def test_what_the_sender_has_corrected_since_is_left_alone(world):
    world.until(10)
    world.send(("a", "insert", 500.0), ("b", "insert", 600.0))
    world.until(30)
    world.send(("a", "update", 7.0), ("b", "delete", 600.0))
    found = world.mend(CENTS)
    assert (found.changes, found.later) == ((), 2)


def test_a_withdrawal_brings_back_what_held_before_or_nothing(world):
    world.send(("old", "insert", 1.0), ("gone", "insert", 2.0), ("dead", "insert", 3.0), ("dead", "delete", 3.0))
    world.until(10)
    world.send(("old", "update", 100.0), ("new", "insert", 200.0), ("gone", "delete", 2.0), ("dead", "insert", 9.0))
    world.until(30)
    found = world.mend(Amendment(withdraw=True))
    assert world.says() == {"old": 1.0, "gone": 2.0}
    assert [(c.ident, c.event["op"]) for c in found.changes] == [
        ("old", "update"),
        ("new", "delete"),
        ("gone", "update"),
        ("dead", "delete"),
    ]
    assert len(world.mend(Amendment(withdraw=True)).done) == 4


def test_only_events_of_which_a_formula_is_true(world):
    world.until(10)
    world.send(("a", "insert", 123.0), ("b", "insert", 5.0))
    world.until(30)
    world.mend(Amendment(set={"card": None}, where="amount == 123"))
    world.history.catch_up()
    frame = world.history.frame("paid").filter(pl.col("_until_known_at").is_null())
    assert dict(zip(frame["_id"], frame["card"], strict=True)) == {"a": None, "b": "c"}


def test_nothing_is_sent_where_one_of_the_events_would_break_the_contract(world):
    world.until(10)
    world.send(("a", "insert", 50.0), ("b", "insert", 500.0))
    world.until(30)
    with pytest.raises(RefusedError, match="1 of the mended events would break") as caught:
        world.mend(Amendment(compute={"amount": "amount * 100"}))
    assert (caught.value.code, caught.value.where) == ("MS-E143", "b: $.amount")
    assert world.mend(Amendment(compute={"amount": "amount * 100"}, where="amount < 100")).unchanged == 1


def test_rows_that_say_when_they_changed_say_so_of_a_mend(clock):
    at = datetime(2013, 3, 1, 12, 0, 15, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "payment_id": ["a"],
            "amount": [500.0],
            "card": ["c"],
            "op": ["insert"],
            "paid_at": [at],
            "changed_at": [at],
            "_id": ["a"],
            "_known_at": [at],
            "_offset": [1],
        }
    )
    (change,) = planned(frame, Contract(STAMPED), WINDOW, CENTS, [], START_US + 60_000_000).changes
    assert change.event["changed_at"] == "2013-03-01T12:01:00Z"
    assert change.columns == {"amount": (500.0, 5.0)}


@pytest.mark.parametrize(
    ("source", "amendment", "code", "kind"),
    [
        (PLAIN, CENTS, "MS-E141", RefusedError),
        (PAID, Amendment(), "MS-E140", ConfigError),
        (PAID, Amendment(set={"amount": 1.0}, withdraw=True), "MS-E140", ConfigError),
        (PAID, Amendment(restore=True, withdraw=True), "MS-E140", ConfigError),
        (PAID, Amendment(withdraw=True, where="amount"), "MS-E138", ConfigError),
        (PAID, Amendment(set={"amonut": 1.0}), "MS-E131", ConfigError),
        (PAID, Amendment(withdraw=True, where="round(amonut) > 1"), "MS-E131", ConfigError),
        (PAID, Amendment(compute={"amount": "cents / 100"}), "MS-E131", ConfigError),
        (PAID, Amendment(set={"payment_id": "x"}), "MS-E142", ConfigError),
        (PAID, Amendment(set={"op": "delete"}), "MS-E142", ConfigError),
        (STAMPED, Amendment(set={"changed_at": "2013-03-01"}), "MS-E142", ConfigError),
        (PAID, Amendment(compute={"amount": "__import__('os')"}), "MS-E137", ConfigError),
        (PAID, Amendment(withdraw=True, where="amount >"), "MS-E137", ConfigError),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_looked_at(source, amendment, code, kind):
    with pytest.raises(kind) as caught:
        check_amendment(amendment, source)
    assert caught.value.code == code


def test_a_source_without_corrections_is_told_how_to_have_them():
    with pytest.raises(RefusedError) as caught:
        check_amendment(CENTS, PLAIN)
    assert 'operation: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert"' in caught.value.hint
    assert 'corrects="operation"' in caught.value.hint
    with pytest.raises(RefusedError, match="no id= by which they could be found"):
        check_amendment(CENTS, SourceDef("paid", FIELDS, time="paid_at"))


events = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["insert", "update", "delete"]),
        st.sampled_from([100.0, 200.0, 300.0]),
        st.integers(0, 29),
    ),
    max_size=12,
)
BY_AMOUNT = ["amount > 150", "amount <= 150", "amount == 200", ""]
of_amount = st.builds(
    lambda text, where: Amendment(compute={"amount": text}, where=where),
    st.sampled_from(["amount / 100", "amount + 1", "100.0"]),
    st.sampled_from(BY_AMOUNT),
)
of_card = st.builds(
    lambda card, where: Amendment(set={"card": card}, where=where), st.none() | st.just("d"), st.sampled_from(BY_AMOUNT)
)
withdrawals = st.builds(lambda where: Amendment(withdraw=True, where=where), st.sampled_from(BY_AMOUNT))
amendments = of_amount | of_card | withdrawals | st.just(Amendment(restore=True))


def history_of(rows):
    """What was sent, a row of it a second that is given."""
    known = pl.Series([START_US + r[3] * 1_000_000 for r in rows], dtype=pl.Int64)
    columns = {
        "payment_id": [r[0] for r in rows],
        "amount": [r[2] for r in rows],
        "card": [r[4] if len(r) > 4 else "c" for r in rows],
        "op": [r[1] for r in rows],
    }
    frame = pl.DataFrame(columns, schema={"payment_id": str, "amount": float, "card": str, "op": str})
    at = known.cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(paid_at=at, _id="payment_id", _known_at=at, _offset=pl.int_range(1, pl.len() + 1))


def then(frame, found, second):
    """History with what a plan sends, all at one moment."""
    if not found.changes:
        return frame
    rows = [Contract(PAID).check(change.event) for change in found.changes]
    sent = history_of([(r[0], r[3], r[1], second, r[2]) for r in rows]).with_columns(
        pl.col("_offset") + frame.height, paid_at=pl.Series([r[4] for r in rows]).cast(pl.Datetime("us", "UTC"))
    )
    return pl.concat([frame, sent])


class Told:
    """A history, and the amendments of it that were made, each a second after the one before."""

    def __init__(self, rows, *made):
        self.frame = history_of(sorted(rows, key=lambda row: row[3]))
        self.earlier = []
        for one in made:
            self.make(one)

    def plan(self, amendment):
        return planned(self.frame, Contract(PAID), WINDOW, amendment, self.earlier, START_US)

    def make(self, amendment):
        found = self.plan(amendment)
        self.frame = then(self.frame, found, 60 + len(self.earlier))
        self.earlier.append((amendment, ranges(self.plan(amendment).done)))
        return found

    def holds(self):
        """What the last version of each row says."""
        last = self.frame.sort("_known_at", "_offset").unique("_id", keep="last").filter(pl.col("op") != "delete")
        return {ident: tuple(rest) for ident, *rest in last.select("_id", "amount", "card").iter_rows()}


@given(events, st.lists(amendments, max_size=3), amendments)
def test_the_same_mend_twice_sends_nothing_the_second_time(rows, before, amendment):
    told = Told(rows, *before, amendment)
    assert told.plan(amendment).changes == ()


@given(events, of_amount, of_card)
def test_mends_of_different_columns_come_to_the_same_in_either_order_and_both_stay(rows, one, other):
    told = Told(rows, one, other)
    assert told.holds() == Told(rows, other, one).holds()
    assert told.plan(one).changes == told.plan(other).changes == ()


@given(events, of_amount | of_card | withdrawals, of_amount | of_card | withdrawals)
def test_mends_with_disjoint_conditions_do_not_touch_each_others_rows(rows, one, other):
    one, other = replace(one, where="amount > 150"), replace(other, where="amount <= 150")
    both = Told(rows, one, other).holds()
    assert both == Told(rows, other, one).holds()
    plain, first, second = Told(rows).holds(), Told(rows, one).holds(), Told(rows, other).holds()
    for ident in plain | both:
        said = [told.get(ident) for told in (first, second) if told.get(ident) != plain.get(ident)]
        assert both.get(ident) == (said[0] if said else plain.get(ident))


@given(events, st.lists(of_amount | of_card | withdrawals, max_size=3), amendments)
def test_after_what_came_is_restored_a_mend_comes_to_what_it_comes_to_alone(rows, before, amendment):
    assert Told(rows, *before, Amendment(restore=True)).holds() == Told(rows).holds()
    assert Told(rows, *before, Amendment(restore=True), amendment).holds() == Told(rows, amendment).holds()
