"""State in tiers: what is removed, let go of, swept or hollow changes no answer that it should not."""

import numpy as np
import pytest
from streams import HOUR_US, every_aggregate, feature, frame, keys_frame, make_view, read_live, record

from mainspring.core.errors import NotFoundError
from mainspring.features import body
from mainspring.features.arena import arena_of
from mainspring.features.body import Asked, lay_out
from mainspring.features.fold import Folder
from mainspring.features.layout import GRACE_US, compile_view
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.state import HEAD, LONG_AGO, NEVER, Sizes
from mainspring.features.status import Status
from mainspring.features.store import BUILDING, KeyParts, OnlineStore, view_of
from mainspring.features.tiers import KeyState

MINUTE_US = 60_000_000
SMALL = Sizes(tail=3, keep=1, block=3, fan=2)
FINITE = make_view(
    *every_aggregate(HOUR_US, suffix="_1h"), *every_aggregate(50 * HOUR_US, suffix="_50h"), name="finite"
)
EVER = make_view(feature("n", "count", "x"), feature("sum", "sum", "x"), feature("last", "last", "x"), name="ever")


class Memory:
    """Parts of one key, counted as they are read."""

    def __init__(self):
        self.parts = {}
        self.loads = 0

    def load(self, number):
        self.loads += 1
        return self.parts[number]

    def save(self, number, raw):
        self.parts[number] = raw

    def drop(self, number):
        self.parts.pop(number, None)


def asked(*edges_us, since_us=LONG_AGO, fine_us=NEVER):
    return Asked(np.array(sorted(edges_us), np.int64), since_us, fine_us, NEVER - 1, NEVER - 1)


def everything(key, parts, layout):
    """All events of a key, as int64[3 + C, n]."""
    head = np.frombuffer(key.flush(0, 1), np.int64)
    behind = lay_out(head[:HEAD], parts, layout, asked(fine_us=LONG_AGO))
    return np.concatenate((behind.events, key.tail), axis=1)


def some_events(rng, n, offset):
    """Events of a minute each, some late: int64[3 + 2, n] in the order of the fold."""
    times = (np.arange(offset, offset + n) - rng.integers(0, 40, n) * (rng.random(n) < 0.3)) * MINUTE_US
    offsets = np.arange(offset, offset + n)
    events = np.stack((times, offsets * MINUTE_US, offsets, rng.normal(0, 9, n).view(np.int64), offsets))
    return np.ascontiguousarray(events[:, np.lexsort((events[2], events[1], events[0]))])


@pytest.mark.parametrize("seed", range(3))
def test_a_key_holds_exactly_what_was_put_in_and_not_taken_out_whatever_tier_it_is_in(seed):
    rng, parts, layout = np.random.default_rng(seed), Memory(), compile_view(FINITE)
    kept = np.empty((5, 0), np.int64)
    raw, offset = None, 1
    for step in range(60):
        key = KeyState.read(raw, parts, layout, SMALL)
        gone = rng.permutation(kept.shape[1])[: rng.integers(0, 4)]
        stamps = [tuple(kept[:3, i].tolist()) for i in gone]
        assert key.remove_all([*stamps, (7, 7, -7)]) == len(gone)
        new = some_events(rng, int(rng.integers(1, 9)), offset)
        offset += new.shape[1]
        key.insert(new, LONG_AGO, keeps_past=False)
        kept = np.concatenate((np.delete(kept, gone, axis=1), new), axis=1)
        kept = kept[:, np.lexsort((kept[2], kept[1], kept[0]))]
        raw = key.flush(offset, step)
        assert np.array_equal(everything(KeyState.read(raw, parts, layout, SMALL), parts, layout), kept)
    assert len(parts.parts) > 20


def test_a_key_whose_events_were_all_taken_out_leaves_nothing():
    parts, layout = Memory(), compile_view(FINITE)
    key = KeyState.read(None, parts, layout, SMALL)
    events = some_events(np.random.default_rng(0), 100, 1)
    key.insert(events, LONG_AGO, keeps_past=False)
    key.flush(1, 1)
    assert len(parts.parts) > 20
    assert key.remove_all([tuple(events[:3, i].tolist()) for i in range(100)]) == 100
    key.flush(2, 2)
    assert key.is_empty
    assert parts.parts == {}


def test_a_key_of_many_events_is_read_from_its_nodes_and_the_blocks_at_the_edges(store):
    n = 40_000
    rng = np.random.default_rng(1)
    records = [record(i + 1, "a", float(x), i * 4_000_000) for i, x in enumerate(rng.lognormal(3, 2, n))]
    Folder([FINITE], store).fold(records)
    layout, now = compile_view(FINITE), n * 4_000_000
    with store.env.begin() as txn, txn.cursor(store.heads) as cursor:
        assert cursor.first()
        place, raw = cursor.item()
        parts, inner = Memory(), KeyParts(store, txn, place)
        parts.load = lambda number: (setattr(parts, "loads", parts.loads + 1), inner.load(number))[1]
        words = np.frombuffer(bytearray(raw), np.int64)
        behind = lay_out(words[:HEAD], parts, layout, asked(now, now - HOUR_US, now - 40 * HOUR_US))
    assert parts.loads <= 3 + 2 * 2  # directory, open group, open block; two edges in a group and a block each
    assert behind.events.shape[1] < 2_000
    assert len(arena_of(layout, words, np.array([0, len(words)]), 2, {0: behind})[0]) < 2_040
    moments = [now, now - GRACE_US, now - 1, now - 4_000_000, now - 123_456_789, now + HOUR_US]
    values, status, _ = read_live(store, FINITE, [("a",)] * len(moments), moments)
    again, codes = replay(
        FINITE, frame(records), keys_frame([("a",)] * len(moments)), np.array(moments), known_offset=n
    )
    exact = [i for i, f in enumerate(FINITE.features) if f.function != "std"]
    assert values[:, exact].tobytes() == again[:, exact].tobytes()
    assert np.allclose(values, again, rtol=1e-12, atol=0, equal_nan=True)
    assert np.array_equal(status, codes)


def test_a_sum_that_needs_every_event_is_exact_though_most_blocks_are_hollow(store):
    huge = {100: 1e50, 700: 1.0, 1_900: 1e25, 3_300: -1e50, 4_400: -1e25}
    records = [record(i + 1, "a", huge.get(i, 0.0), i * 1_000) for i in range(6_000)]
    Folder([FINITE], store).fold(records)
    values, status, _ = read_live(store, FINITE, [("a",)] * 2, [6_000_000, 6_000_000])
    sums = [i for i, f in enumerate(FINITE.features) if f.function == "sum"]
    assert values[:, sums].tolist() == [[1.0, 1.0]] * 2
    assert (status == Status.PRESENT).all()


@pytest.mark.parametrize("by", ["offset", "known_at"])
def test_each_moment_of_a_read_may_see_as_much_as_it_knew(store, monkeypatch, by):
    monkeypatch.setattr(body, "WHOLE_EVENTS", 4)
    rng, n = np.random.default_rng(2), 300
    at = [
        i * MINUTE_US - int(late) * MINUTE_US for i, late in enumerate(rng.integers(0, 50, n) * (rng.random(n) < 0.3))
    ]
    records = [record(i + 1, "ab"[i % 2], float(x), at[i], i * MINUTE_US) for i, x in enumerate(rng.normal(0, 9, n))]
    Folder([FINITE], store, SMALL).fold(records)
    keys = [("ab"[i % 2],) for i in range(40)]
    t_us = n * MINUTE_US - rng.integers(0, 55, 40) * MINUTE_US
    offsets = rng.integers(n - 60, n + 1, 40)
    limits = offsets if by == "offset" else (offsets - 1) * MINUTE_US  # an offset is known in its own minute
    with Reader([FINITE], store).snapshot() as snap:
        values, status = snap.read(FINITE, keys, t_us, limits, by)
    again, codes = replay(FINITE, frame(records), keys_frame(keys), t_us, known_offset=offsets)
    exact = [i for i, f in enumerate(FINITE.features) if f.function != "std"]
    assert values[:, exact].tobytes() == again[:, exact].tobytes()
    assert np.array_equal(status, codes)


def test_a_read_in_a_folding_transaction_sees_what_it_has_written_and_is_not_remembered(store):
    folder, reader = Folder([FINITE], store, SMALL), Reader([FINITE], store)
    folder.fold([record(i + 1, "a", 1.0, i) for i in range(20)])
    layout = compile_view(FINITE)

    def write_and_fail():
        with store.write() as (txn, root):
            state = root.views[f"finite@{FINITE.version}"]
            place = next(txn.cursor(store.heads).iternext(values=False))
            parts = KeyParts(store, txn, place)
            key = KeyState.read(txn.get(place, db=store.heads), parts, layout, SMALL)
            more = everything(key, parts, layout)[:, :5] + [[30], [30], [30], [0], [0]]
            key.insert(np.ascontiguousarray(more), LONG_AGO, keeps_past=False)
            txn.put(place, key.flush(30, root.commits), db=store.heads)
            moments = np.array([90, 90])
            found, _ = reader.within(txn, root).read_known(layout, state, [place[4:-4], None], moments, moments)
            assert found[:, 0].tolist() == [25.0, 0.0]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    with reader.snapshot() as snap:
        assert snap.read(FINITE, [("a",)], np.array([90]))[0][0, 0] == 20.0


def test_keys_that_never_come_back_are_swept_away_and_those_that_still_count_are_not(store):
    folder = Folder([FINITE, EVER], store)
    folder.fold([record(i + 1, f"key{i}", 1.0, i) for i in range(500)])
    folder.fold([record(501, "busy", 1.0, 10 * HOUR_US)])
    with store.env.begin() as txn:
        assert txn.stat(store.heads)["entries"] == 2 * 501
    for hour in range(11, 140):
        folder.fold([record(folder.offset + 1, "busy", 1.0, hour * HOUR_US)])
    views = store.root().views
    with store.env.begin() as txn:
        left = [view_of(place) for place in txn.cursor(store.heads).iternext(values=False)]
    assert left.count(views[f"finite@{FINITE.version}"].id) == 1
    assert left.count(views[f"ever@{EVER.version}"].id) == 501
    assert views[f"finite@{FINITE.version}"].gone == 500
    assert read_live(store, EVER, [("key7",)], [140 * HOUR_US])[0][0].tolist() == [1.0, 1.0, 1.0]


def test_a_key_whose_latest_value_has_a_ttl_expires_then_is_missing_and_goes_as_in_a_replay(store):
    ttl_us = 3 * HOUR_US
    view = make_view(feature("last", "last", "x", ttl=ttl_us), feature("two", "last_k", "x", ttl=ttl_us, k=2))
    records = [record(1, "gone", 7.0, 0), record(2, "gone", 8.0, HOUR_US)]
    records += [record(2 + hour, "busy", 1.0, hour * HOUR_US) for hour in range(1, 40)]
    folder, seen = Folder([view], store), []
    for one in records:
        folder.fold([one])
        t_us = one.known_at_us + 1
        values, status, _ = read_live(store, view, [("gone",)], [t_us])
        again, codes = replay(
            view, frame(records), keys_frame([("gone",)]), np.array([t_us]), known_offset=np.array([one.offset])
        )
        assert values.tobytes() == np.ascontiguousarray(again).tobytes()
        assert np.array_equal(status, codes)
        seen.append(Status(status[0, 0]))
    assert seen == sorted(seen, key=[Status.PRESENT, Status.EXPIRED, Status.MISSING].index)
    assert set(seen) == {Status.PRESENT, Status.EXPIRED, Status.MISSING}
    assert next(iter(store.root().views.values())).gone == 1


def test_a_key_that_comes_back_after_it_was_swept_is_not_answered_from_what_a_reader_remembers(store):
    folder, reader = Folder([FINITE], store, SMALL), Reader([FINITE], store)
    seen = FINITE.column_names.index("finite__count_50h")

    def count(at):
        with reader.snapshot() as snap:
            return snap.read(FINITE, [("a",)], np.array([at]))[0][0].tolist()[seen]

    folder.fold([record(i + 1, "a", 1.0, i) for i in range(20)])
    assert count(90) == 20.0
    for hour in range(60, 130):
        folder.fold([record(folder.offset + 1, "b", 1.0, hour * HOUR_US)])
    assert store.root().views[f"finite@{FINITE.version}"].gone == 1
    folder.fold([record(folder.offset + 1 + i, "a", 1.0, 130 * HOUR_US + i) for i in range(9)])
    assert count(131 * HOUR_US) == 9.0


def test_a_view_is_built_between_folds_and_is_not_served_before_it_is_whole(store, monkeypatch):
    monkeypatch.setattr("mainspring.features.fold.BUILT_EVENTS", 50)
    records = [record(i + 1, f"key{i % 20}", 1.0, i) for i in range(900)]
    folder = Folder([FINITE], store)
    folder.fold(records[:600])
    folder = Folder([FINITE, EVER], store)
    steps = folder.building(EVER, frame(records), 600)
    seen = []
    for done, of in steps:
        seen.append(done)
        assert of == 600
        assert folder.behind() == [(EVER, None)]
        assert read_live(store, EVER, [("key1",)], [5_000])[1][0, 0] == Status.UNAVAILABLE
        folder.fold(records[folder.offset : folder.offset + 10])
    assert seen == sorted(seen)
    assert len(seen) > 5
    assert folder.behind() == [(EVER, 600)]
    folder.catch_up(EVER, records[600 : folder.offset])
    assert folder.behind() == []
    expected = sum(r.values[0] == "key1" for r in records[: folder.offset])
    assert read_live(store, EVER, [("key1",)], [5_000])[0][0, 0] == expected


def test_a_build_that_was_broken_off_is_begun_anew(store):
    records = [record(i + 1, f"key{i % 20}", 1.0, i) for i in range(600)]
    Folder([FINITE], store).fold(records)
    folder = Folder([FINITE, EVER], store)
    next(folder.building(EVER, frame(records), 600))
    again = Folder([FINITE, EVER], store)
    assert store.root().views[f"ever@{EVER.version}"].offset == BUILDING
    assert again.behind() == [(EVER, None)]
    with pytest.raises(NotFoundError, match="MS-F306"):
        again.catch_up(EVER, records)
    again.backfill(EVER, frame(records), 600)
    assert read_live(store, EVER, [("key1",)], [5_000])[0][0, 0] == 30.0


def test_a_busy_key_rewrites_little_however_many_events_it_has(tmp_path):
    """One more event of a key of 30,000 writes its head alone."""
    records = [record(i + 1, "a", 1.0, i * 1_000) for i in range(30_003)]
    with OnlineStore.open(tmp_path / "state", 1 << 28, writable=True) as store:
        folder = Folder([FINITE], store)
        folder.fold(records[:30_001])
        for i in (1, 2):
            with store.env.begin(db=store.parts) as txn:
                before = dict(txn.cursor())
            folder.fold(records[30_000 + i : 30_001 + i])
            with store.env.begin(db=store.parts) as txn:
                assert before == dict(txn.cursor())
            with store.env.begin(db=store.heads) as txn:
                assert all(len(raw) < 2_048 for _, raw in txn.cursor())


def days_of_events(seed, n):
    """A log of busy days and silent nights: 3 keys of half the events, 13 of the rest; some late, some by hours."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(20_000_000, n).astype(np.int64) + 1
    gaps[rng.random(n) < 0.003] += 9 * HOUR_US
    known = np.cumsum(gaps)
    late = np.where(rng.random(n) < 0.2, rng.integers(0, HOUR_US // 2, n), 0) * np.where(rng.random(n) < 0.05, 8, 1)
    names = np.where(rng.random(n) < 0.5, rng.integers(0, 3, n), rng.integers(3, 16, n))
    numbers = np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(2, 1, n))
    return [
        record(i + 1, f"k{name}", None if np.isnan(x) else x, t - away, t)
        for i, (name, x, t, away) in enumerate(
            zip(names.tolist(), numbers.tolist(), known.tolist(), late.tolist(), strict=True)
        )
    ]


@pytest.mark.parametrize("seed", range(2))
def test_one_reader_over_days_of_small_folds_answers_as_a_replay_does_at_each_offset(store, seed):
    day = make_view(*every_aggregate(HOUR_US, suffix="_1h"), *every_aggregate(3 * HOUR_US, suffix="_3h"), name="day")
    records, rng = days_of_events(seed, 9_000), np.random.default_rng(seed)
    folder, reader = Folder([day, EVER], store), Reader([day, EVER], store)
    keys = [(f"k{i}",) for i in range(17)]
    asked_for = {view.name: ([], [], [], [], []) for view in (day, EVER)}
    while folder.offset < len(records):
        folder.fold(records[folder.offset : folder.offset + int(rng.integers(1, 51))])
        clock = records[folder.offset - 1].known_at_us
        with reader.snapshot() as snap:
            for view in (day, EVER):
                which = [keys[i] for i in rng.integers(0, 17, 3)]
                t_us = clock + rng.choice([0, 1, -HOUR_US // 2, MINUTE_US, -GRACE_US], 3)
                values, status = snap.read(view, which, t_us)
                for row, part in zip(
                    asked_for[view.name], (which, t_us, [snap.offset] * 3, values, status), strict=True
                ):
                    row.extend(part)
    assert store.root().views[f"day@{day.version}"].gone > 20
    for view in (day, EVER):
        which, t_us, offsets, values, status = asked_for[view.name]
        again, codes = replay(view, frame(records), keys_frame(which), np.array(t_us), known_offset=np.array(offsets))
        exact = [i for i, f in enumerate(view.features) if f.function != "std"]
        assert np.array(values)[:, exact].tobytes() == again[:, exact].tobytes()
        assert np.array_equal(np.array(status), codes)


def test_keys_with_and_without_something_behind_their_tails_are_answered_together_as_each_alone(store):
    counts = {"tail": 2, "open": 6, "blocks": 60, "none": 1, "more": 33}
    owners = np.random.default_rng(3).permutation(np.repeat(list(counts), list(counts.values()))).tolist()
    records = [record(i + 1, k, i / 7, i * MINUTE_US * 5) for i, k in enumerate(owners)]
    folder = Folder([FINITE, EVER], store, SMALL)
    for first in range(0, len(records), 10):
        folder.fold(records[first : first + 10])
    keys = [(k,) for k in (*counts, "nobody", None, *reversed(counts), "tail")]
    now = len(records) * MINUTE_US * 5
    t_us = now - np.arange(len(keys)) * MINUTE_US
    for view in (FINITE, EVER):
        for many in (keys[:5], keys):
            t = t_us[: len(many)]
            with Reader([view], store).snapshot() as snap:
                values, status = snap.read(view, many, t)
            alone = []
            for i, key in enumerate(many):
                with Reader([view], store).snapshot() as snap:
                    alone.append(snap.read(view, [key], t[i : i + 1]))
            assert values.tobytes() == np.concatenate([one for one, _ in alone]).tobytes()
            assert np.array_equal(status, np.concatenate([codes for _, codes in alone]))
    again, _ = replay(EVER, frame(records), keys_frame(keys), t_us, known_offset=len(records))
    assert values.tobytes() == again.tobytes()
