"""The live driver against replay at the logged offset, and both against the oracle."""

import itertools

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import (
    HOUR_US,
    OVER_TEN,
    assert_is_oracle,
    every_aggregate,
    feature,
    fold_all,
    frame,
    keys_frame,
    make_view,
    read_live,
    record,
)

from mainspring.core.errors import BackPressureError, NotFoundError, RefusedError
from mainspring.events.record import Stretch
from mainspring.features import body, state
from mainspring.features.fold import Folder
from mainspring.features.layout import GRACE_US
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.status import Status
from mainspring.features.store import OnlineStore

MINUTE_US = 60_000_000
NUMBERS = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 0.1, 15.0, 1e16, -1e16]),
    st.floats(-1e9, 1e9),
    st.floats(allow_nan=False, allow_infinity=False),
)
FINITE = make_view(
    *every_aggregate(20 * MINUTE_US, suffix="_20m"),
    *every_aggregate(90 * MINUTE_US, suffix="_90m"),
    feature("over", "count", window=50 * MINUTE_US, where=OVER_TEN),
    name="finite",
)
BOUNDLESS = make_view(
    feature("n", "count", "x"),
    feature("sum", "sum", "x"),
    feature("mean", "mean", "x"),
    feature("least", "min", "x"),
    feature("most", "max", "x"),
    feature("last", "last", "x"),
    feature("age", "age"),
    feature("fresh", "last", "x", ttl=30 * MINUTE_US),
    feature("fresh_over", "last", "x", ttl=10 * MINUTE_US, where=OVER_TEN),
    feature("n_20m", "count", "x", 20 * MINUTE_US),
    name="boundless",
)
VIEWS = [FINITE, BOUNDLESS]


@st.composite
def logs(draw):
    """A live log: known in the order of offsets, on time, a little late, much too late, simultaneous."""
    late = st.one_of(st.just(0), st.integers(0, 3 * MINUTE_US), st.integers(0, 6 * HOUR_US))
    step = st.sampled_from([1, MINUTE_US, 7 * MINUTE_US, 40 * MINUTE_US])
    rows = draw(st.lists(st.tuples(st.sampled_from(["a", "b", None]), NUMBERS, step, late), max_size=45))
    known, records = draw(st.sampled_from([-3 * HOUR_US, 1_700_000_000_000_000])), []
    for i, (k, x, gap, behind) in enumerate(rows):
        known += gap
        at = known - behind
        records.append(record(i + 1, k, x, at - at % MINUTE_US if i % 2 else at, known))
    return records


def folded(offset):
    """What is known of a live state, for the oracle, at any of its moments."""
    return lambda _: lambda row: row["_offset"] <= offset


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    """Short streams must fill, split and let go of blocks and groups too, and be read through hollow leaves."""
    if "small" in request.node.name or "oracle" in request.node.name:
        small = state.Sizes(tail=3, keep=1, block=3, fan=2)
        monkeypatch.setattr(state.Sizes, "of", classmethod(lambda cls, columns: small))
        monkeypatch.setattr(body, "WHOLE_EVENTS", 4)


@given(
    logs(),
    st.lists(st.integers(1, 45), max_size=6),
    st.lists(st.integers(-HOUR_US, 2 * HOUR_US), min_size=1, max_size=4),
)
def test_live_is_replay_at_its_offset_is_the_oracle_for_any_batches_and_restarts(
    tmp_path_factory, records, cuts, aways
):
    with OnlineStore.open(tmp_path_factory.mktemp("state"), 1 << 26, writable=True) as store:
        reader = Reader(VIEWS, store)  # one reader all along: its cache must follow every change
        edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
        for a, b in itertools.pairwise(edges):
            Folder(VIEWS, store).fold(records[a:b])
            clock = records[b - 1].known_at_us
            moments = [(k, clock + away) for k in ("a", "b", None) for away in (0, -HOUR_US, *aways)]
            keys, t_us = [(k,) for k, _ in moments], np.array([t for _, t in moments])
            for view in VIEWS:
                with reader.snapshot() as snap:
                    assert snap.offset == b
                    values, status = snap.read(view, keys, t_us)
                assert_is_oracle(view, records, keys, t_us.tolist(), values, status, known=folded(b))
                again, codes = replay(view, frame(records), keys_frame(keys), t_us, known_offset=b)
                exact = [i for i, f in enumerate(view.features) if f.function != "std"]
                assert values[:, exact].tobytes() == again[:, exact].tobytes()
                assert np.array_equal(status, codes)


@pytest.mark.parametrize("seed", range(4))
def test_small_blocks_that_fill_split_take_late_events_and_are_let_go_of_stay_a_replay(store, seed):
    """A longer stream than hypothesis likes to draw: each batch is read through one cache, to the edge of the grace."""
    rng = np.random.default_rng(seed)
    n = 400
    known = np.cumsum(
        rng.choice([1, MINUTE_US // 7, 3 * MINUTE_US, 20 * MINUTE_US], n, p=[0.2, 0.4, 0.35, 0.05])
    ).tolist()
    behind = np.where(rng.random(n) < 0.4, rng.integers(0, 200 * MINUTE_US, n), 0)
    late = np.where(rng.random(n) < 0.05, behind * 4, behind).tolist()
    names, numbers = rng.choice(["a", "b"], n, p=[0.8, 0.2]).tolist(), rng.lognormal(0, 9, n).tolist()
    records = [
        record(i + 1, names[i], None if i % 9 == 4 else numbers[i], known[i] - late[i], known[i]) for i in range(n)
    ]
    history, reader, folder = frame(records), Reader(VIEWS, store), Folder(VIEWS, store)
    while folder.offset < n:
        folder.fold(records[folder.offset : folder.offset + int(rng.integers(1, 9))])
        clock = records[folder.offset - 1].known_at_us
        aways = [-GRACE_US, 1 - GRACE_US, 0, 1, 5 * MINUTE_US, *rng.integers(-GRACE_US, HOUR_US, 5).tolist()]
        keys, t_us = [(k,) for k in "ab" for _ in aways], np.array([clock + away for away in aways] * 2)
        for view in VIEWS:
            with reader.snapshot() as snap:
                values, status = snap.read(view, keys, t_us)
            again, codes = replay(view, history, keys_frame(keys), t_us, known_offset=folder.offset)
            exact = [i for i, f in enumerate(view.features) if f.function != "std"]
            assert values[:, exact].tobytes() == again[:, exact].tobytes()
            assert np.allclose(values, again, rtol=1e-12, atol=0, equal_nan=True)
            assert np.array_equal(status, codes)
    assert store.root().views[f"finite@{FINITE.version}"].too_old > 0


def test_the_batches_of_a_small_stream_change_no_value(tmp_path):
    rng = np.random.default_rng(5)
    n = 400
    known = np.cumsum(rng.integers(1, 2 * MINUTE_US, n)).tolist()
    lateness = np.where(rng.random(n) < 0.2, rng.integers(0, 4 * HOUR_US, n), 0).tolist()
    records = [
        record(i + 1, "ab"[i % 2], float(x), known[i] - lateness[i], known[i])
        for i, x in enumerate(rng.lognormal(0, 12, n))
    ]
    seen = set()
    for size in (1, 7, 64, 400):
        with OnlineStore.open(tmp_path / str(size), 1 << 26, writable=True) as store:
            fold_all(store, VIEWS, records, range(0, n, size))
            seen.add(tuple(read_live(store, view, [("a",), ("b",)], [known[-1]] * 2)[0].tobytes() for view in VIEWS))
    assert len(seen) == 1


def test_a_moment_more_than_the_grace_behind_the_clock_is_unavailable_never_partial(store):
    fold_all(store, VIEWS, [record(1, "a", 1.0, 0, 10 * HOUR_US)])
    clock = 10 * HOUR_US
    values, status, _ = read_live(
        store, FINITE, [("a",)] * 2 + [("never",)], [clock - GRACE_US, clock - GRACE_US - 1, 0]
    )
    assert (status[0] != Status.UNAVAILABLE).all()
    assert (status[1:] == Status.UNAVAILABLE).all()
    assert np.isnan(values[1:]).all()


def test_an_event_older_than_every_window_is_counted_and_changes_nothing(store):
    records = [
        record(1, "a", 1.0, 10 * HOUR_US),
        record(2, "a", 5.0, 0, 10 * HOUR_US + 1),
        record(3, "b", 5.0, 0, 10 * HOUR_US + 2),
    ]
    fold_all(store, VIEWS, records, [1])  # the clock that counts is that of the folds before
    values, _, _ = read_live(store, FINITE, [("a",), ("b",)], [10 * HOUR_US + 1] * 2)
    assert values[:, 0].tolist() == [1.0, 0.0]
    views = store.root().views
    assert views[f"finite@{FINITE.version}"].too_old == 2
    assert views[f"boundless@{BOUNDLESS.version}"].too_old == 0
    assert read_live(store, BOUNDLESS, [("a",), ("b",)], [10 * HOUR_US + 1] * 2)[0][:, 1].tolist() == [6.0, 5.0]


def test_old_blocks_are_let_go_of_and_a_window_without_a_beginning_still_counts_them(store):
    n = 2_000
    records = [record(i + 1, "a", 0.1, i * MINUTE_US) for i in range(n)]
    fold_all(store, VIEWS, records, range(0, n, 100))
    with store.env.begin() as txn:
        kept = txn.stat(store.parts)["entries"]
    assert kept <= 2 * 2 + 3  # sealed blocks of both views, their open blocks and groups, one past
    values, _, _ = read_live(store, BOUNDLESS, [("a",)], [n * MINUTE_US])
    assert values[0, :3].tolist() == [n, 200.0, 0.1]


def test_a_late_event_rewrites_the_one_block_it_belongs_to(store):
    records = [record(i + 1, "a", float(i), i * 1_000) for i in range(1_100)]
    fold_all(store, [FINITE], records)
    with store.env.begin(db=store.parts) as txn:
        before = dict(txn.cursor())
    fold_all(store, [FINITE], [*records, record(1_101, "a", 1e6, 300_500, 1_100_000)], [1_100])
    with store.env.begin(db=store.parts) as txn:
        after = dict(txn.cursor())
    assert len(before) == len(after) == 4 + 2  # sealed blocks; the open block and the group of their nodes
    assert len(before.items() & after.items()) == 3 + 1
    values, _, _ = read_live(store, FINITE, [("a",)], [2_000_000])
    assert values[0, 0] == 1_101.0


def test_records_that_were_folded_are_skipped_when_they_come_again(store):
    records = [record(i + 1, "a", 1.0, i) for i in range(10)]
    fold_all(store, [FINITE], records)
    assert Folder([FINITE], store).fold(records) == 10
    assert read_live(store, FINITE, [("a",)], [50])[0][0, 0] == 10.0


def test_a_fold_that_finds_the_offset_moved_stops_and_writes_nothing(store):
    first, second = Folder([FINITE], store), Folder([FINITE], store)
    first.fold([record(1, "a", 1.0, 0)])
    with pytest.raises(RefusedError, match="MS-F304"):
        second.fold([record(1, "a", 1.0, 0)])
    assert read_live(store, FINITE, [("a",)], [50])[0][0, 0] == 1.0


def test_a_gap_in_the_log_is_refused(store):
    with pytest.raises(RefusedError, match="MS-F305") as caught:
        Folder([FINITE], store).fold([record(2, "a", 1.0, 0)])
    assert caught.value.hint == state.REBUILD


def test_records_of_other_sources_move_the_offset_only(store):
    other = record(1, "a", 1.0, 0)
    other = type(other)(1, "elsewhere", "v", None, 0, 0, 0, (), ())
    assert Folder([FINITE], store).fold([other]) == 1
    assert read_live(store, FINITE, [("a",)], [50])[2] == 1


def test_records_that_are_left_out_because_no_view_reads_them_change_nothing_but_the_offset_and_the_clock(tmp_path):
    other = {"source": "another", "version": "v0"}
    records = [
        msgspec.structs.replace(one, **other) if i % 3 == 1 else one
        for i, one in enumerate(record(i + 1, "ab"[i % 2], float(i), i * MINUTE_US) for i in range(60))
    ]
    states = []
    for name in ("all", "some"):
        with OnlineStore.open(tmp_path / name, 1 << 24, writable=True) as store:
            fold = Folder(VIEWS, store)
            for first in range(0, 60, 7):
                part = records[first : first + 7]
                if name == "all":
                    fold.fold(part)
                else:
                    whole = Stretch.of(part)
                    mine = [r for r in part if r.source in fold.sources]
                    fold.fold_stretch(Stretch(mine, whole.first, whole.last, whole.known_at_us))
            with pytest.raises(RefusedError, match="MS-F305"):
                fold.fold_stretch(Stretch([], 62, 70, 0))
            root = store.root()
            found = [read_live(store, view, [("a",), ("b",)], [60 * MINUTE_US] * 2) for view in VIEWS]
            states.append((root.offset, root.clock_us, found))
    assert states[0][:2] == states[1][:2] == (60, 59 * MINUTE_US)
    for one, other in zip(states[0][2], states[1][2], strict=True):
        assert not np.isnan(one[0]).all()
        np.testing.assert_equal(one, other)


def test_a_record_of_an_older_contract_version_is_read_by_its_columns(store):
    old = record(1, "a", 4.0, 0)
    old = type(old)(1, "events", "older", None, 0, 0, 0, (0, 4.0, "a"), ("at", "x", "k"))
    Folder([FINITE], store).fold([old])
    values, _, _ = read_live(store, FINITE, [("a",)], [50])
    assert values[0, :2].tolist() == [1.0, 4.0]


def test_a_full_map_is_back_pressure_and_loses_nothing(tmp_path):
    records = [record(i + 1, f"key{i}", float(i), i) for i in range(20_000)]
    with OnlineStore.open(tmp_path / "state", 400_000, writable=True) as store:
        folder = Folder([FINITE], store)
        folder.fold(records[:10])
        with pytest.raises(BackPressureError, match="MS-F302"):
            folder.fold(records)
        assert store.folded_offset() == 10
        assert folder.fold(records[:11]) == 11


def test_backfill_builds_what_folding_would_have_built(tmp_path):
    rng = np.random.default_rng(6)
    n = 3_000
    known = np.cumsum(rng.integers(1, MINUTE_US, n)).tolist()
    records = [
        record(i + 1, str(rng.integers(0, 9)), float(x), known[i] - int(rng.integers(0, MINUTE_US)), known[i])
        for i, x in enumerate(rng.normal(0, 9, n))
    ]
    keys, t_us = [(str(i),) for i in range(10)], [known[-1]] * 10
    answers = []
    for name in ("folded", "filled", "caught_up"):
        with OnlineStore.open(tmp_path / name, 1 << 28, writable=True) as store:
            if name == "folded":
                fold_all(store, VIEWS, records, range(0, n, 500))
            elif name == "filled":
                folder = Folder(VIEWS, store)
                for view in VIEWS:
                    folder.backfill(view, frame(records), n)
                assert folder.skip_to(n) == n
            else:
                Folder([FINITE], store).fold(records)
                folder = Folder(VIEWS, store)
                assert folder.behind() == [(BOUNDLESS, None)]
                folder.backfill(BOUNDLESS, frame(records), 1_000)
                assert folder.behind() == [(BOUNDLESS, 1_000)]
                assert (read_live(store, BOUNDLESS, keys, t_us)[1] == Status.UNAVAILABLE).all()
                for a in range(1_000, n, 700):
                    folder.catch_up(BOUNDLESS, records[a : a + 700])
                assert folder.behind() == []
            answers.append([part.tobytes() for view in VIEWS for part in read_live(store, view, keys, t_us)[:2]])
    assert answers[0] == answers[1] == answers[2]


def test_a_new_view_is_unavailable_until_it_has_caught_up_and_then_folds_with_the_others(store):
    records = [record(i + 1, "a", 1.0, i) for i in range(30)]
    Folder([FINITE], store).fold(records[:10])
    folder = Folder(VIEWS, store)
    folder.fold(records[10:20])
    assert (read_live(store, BOUNDLESS, [("a",)], [50])[1] == Status.UNAVAILABLE).all()
    folder.backfill(BOUNDLESS, frame(records), 20)
    folder.fold(records[20:])
    assert read_live(store, BOUNDLESS, [("a",)], [50])[0][0, 0] == 30.0
    assert read_live(store, FINITE, [("a",)], [50])[0][0, 0] == 30.0


def test_a_view_that_was_filled_further_than_the_fold_serves_once_the_fold_is_there(store):
    records = [record(i + 1, "a", 1.0, i) for i in range(30)]
    folder = Folder(VIEWS, store)
    folder.fold(records[:10])
    folder.backfill(BOUNDLESS, frame(records), 20)
    assert (read_live(store, BOUNDLESS, [("a",)], [50])[1] == Status.UNAVAILABLE).all()
    folder.fold(records[10:15])
    assert (read_live(store, BOUNDLESS, [("a",)], [50])[1] == Status.UNAVAILABLE).all()
    folder.fold(records[15:25])
    assert read_live(store, BOUNDLESS, [("a",)], [50])[0][0, 0] == 25.0


def test_a_view_without_state_cannot_be_caught_up_nor_the_store_moved_past_it(store):
    Folder([FINITE], store).fold([record(1, "a", 1.0, 0)])
    folder = Folder(VIEWS, store)
    with pytest.raises(NotFoundError, match="MS-F306") as no_state:
        folder.catch_up(BOUNDLESS, [])
    with pytest.raises(RefusedError, match="MS-F305") as behind:
        folder.skip_to(9)
    assert no_state.value.hint == behind.value.hint == state.REBUILD


def test_a_view_that_is_built_anew_leaves_nothing_of_the_old_state(store):
    records = [record(i + 1, "ab"[i % 2], 1.0, i) for i in range(2_000)]
    folder = Folder([FINITE], store)
    folder.fold(records)
    with Reader([FINITE], store).snapshot() as snap:
        snap.read(FINITE, [("a",), ("b",)], np.array([5_000] * 2))
    folder.backfill(FINITE, frame(records[::2]), 2_000)
    assert read_live(store, FINITE, [("a",), ("b",)], [5_000] * 2)[0][:, 0].tolist() == [1_000.0, 0.0]
    with store.env.begin() as txn:
        assert txn.stat(store.heads)["entries"] == 1
        assert txn.stat(store.parts)["entries"] == 3 + 2
    folder.drop(f"finite@{FINITE.version}")
    with store.env.begin() as txn:
        assert txn.stat(store.heads)["entries"] == txn.stat(store.parts)["entries"] == 0


def test_entities_of_several_columns_and_long_names_are_kept_apart(store):
    view = make_view(feature("n", "count", window=HOUR_US), entity=("k", "n"))
    names = ["a" * 1_000, "a" * 1_001, "", "ab"]
    records = [record(i + 1, k, 1.0, i, n=m) for i, (k, m) in enumerate((k, m) for k in names for m in (1, 11, None))]
    fold_all(store, [view], records)
    keys = [(k, m) for k in names for m in (1, 11, None)]
    values, _, _ = read_live(store, view, keys, [50] * len(keys))
    assert values[:, 0].tolist() == [1.0, 1.0, 0.0] * 4


def test_several_views_are_read_at_once_as_each_is_alone(store):
    views = [
        make_view(*every_aggregate(40), name="scans"),
        make_view(feature("n", "count", "x"), feature("sum", "sum", "x", window=30), name="sums"),
        make_view(feature("n", "count", "x"), name="behind"),
    ]
    folder = Folder(views[:2], store)
    folder.fold([record(i + 1, f"key{i % 7}", float(i), i // 2) for i in range(600)])
    shared, other = [("key1",), None, ("key1",), ("nobody",), ("key5",)], [("key2",)] * 5
    t_us = np.array([300, 300, 120, 300, 1 << 62])
    with Reader(views, store).snapshot() as snap:
        asked = [(views[0], shared), (views[1], shared), (views[1], other), (views[2], shared)]
        found = snap.read_views([(view, [[key and key[0] for key in keys]]) for view, keys in asked], t_us)
        for (view, keys), (values, status) in zip(asked, found, strict=True):
            alone, codes = snap.read(view, keys, t_us)
            assert values.tobytes() == alone.tobytes()
            assert np.array_equal(status, codes)
            one = [snap.read(view, [key], t_us[i : i + 1])[0][0] for i, key in enumerate(keys)]
            assert np.array_equal(values, np.array(one), equal_nan=True)
    assert found[1][0][:, 0].tolist() == [86.0, 0.0, 35.0, 0.0, 85.0]
    assert (found[3][1] == Status.UNAVAILABLE).all()
