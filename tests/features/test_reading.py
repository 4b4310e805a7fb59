"""Views of a batch are answered in one call: bit for bit what each key alone gives, laid out whole."""

import numpy as np
import pytest
from streams import HOUR_US, every_aggregate, feature, make_view, record

from mainspring.core.errors import FormatError
from mainspring.features import body, scans
from mainspring.features import kernels as k
from mainspring.features.arena import arena_of
from mainspring.features.body import Asked, lay_out
from mainspring.features.fold import Folder
from mainspring.features.keys import encode_key
from mainspring.features.layout import GRACE_US, compile_view
from mainspring.features.panel import NOBODY, Panel
from mainspring.features.reader import Reader
from mainspring.features.state import H_KEPT, HAS_PAST, HEAD, LONG_AGO, NEVER, Sizes
from mainspring.features.status import Status
from mainspring.features.store import KeyParts, head_key

MINUTE_US = 60_000_000
SMALL = Sizes(tail=3, keep=1, block=3, fan=2)
SUMS = ("count", "sum", "mean", "std", "min", "max", "last", "first", "age")
VIEWS = [
    make_view(*every_aggregate(2 * HOUR_US), name="scans"),
    make_view(*every_aggregate(HOUR_US, functions=SUMS), name="hour"),
    make_view(*every_aggregate(None, functions=SUMS), *every_aggregate(HOUR_US, "n", "_n", SUMS), name="ever"),
    make_view(*every_aggregate(None, "n", functions=SUMS), name="ever_n"),
    make_view(feature("n", "count", "x"), feature("all", "quantile", "x", q=0.5), name="ever_scans"),
    make_view(*every_aggregate(9 * HOUR_US, functions=SUMS), name="hops", hop_us=10 * MINUTE_US),
    make_view(*every_aggregate(9 * HOUR_US), name="hops_scans", hop_us=10 * MINUTE_US),
    make_view(feature("n", "count", "x"), name="behind"),
]
BEHIND = len(VIEWS) - 1


def simply(store, snap, view, key, t_us, limit):
    """A moment's answer from all that a key has, laid out alone."""
    layout = compile_view(view)
    out, status = layout.null[:, None].copy(), layout.null_status[:, None].copy()
    with store.env.begin() as txn:
        state = store.root(txn).views[f"{view.name}@{view.version}"]
        place = head_key(state, encode_key((key,)) or b"")
        raw = txn.get(place, db=store.heads)
        if raw is None:
            return out[:, 0], status[:, 0]
        words = np.frombuffer(bytearray(raw), np.int64)
        asked = Asked(np.empty(0, np.int64), LONG_AGO, LONG_AGO, NEVER - 1, NEVER - 1)
        bodies = {}
        if words[H_KEPT] or words[0] >> 8 & HAS_PAST:
            bodies = {0: lay_out(words[:HEAD], KeyParts(store, txn, place), layout, asked)}
        *arena, kept, kept_starts = arena_of(layout, words, np.array([0, len(words)]), 2, bodies)
    moments = np.array([[t_us], [limit], [0], [0]])
    k.read(*arena, moments, 0, 1, layout.plan, layout.parameters, layout.windows, layout.hop, out, status)
    scans.answer(*arena[:4], arena[-1], moments, 0, 1, *layout.scanned, kept, kept_starts, out, status)
    return out[:, 0], status[:, 0]


@pytest.fixture
def busy(store, monkeypatch):
    """A store whose keys have all that a key may have: tails, blocks, hops and what was let go of; and the moment."""
    monkeypatch.setattr(body, "WHOLE_EVENTS", 8)
    rng = np.random.default_rng(4)
    folder, n = Folder(VIEWS[:BEHIND], store, SMALL), 900
    names = [f"k{i}" for i in range(40)]
    owners = rng.choice(names, n, p=np.arange(1, 41) / 820).tolist()
    records = [record(i + 1, owners[i], float(rng.normal() * 9), i * MINUTE_US, n=i % 7) for i in range(n)]
    records += [record(n + 1, "once", 1.0, n * MINUTE_US)]
    for first in range(0, len(records), 150):
        folder.fold(records[first : first + 150])
    return store, names, n * MINUTE_US


@pytest.mark.parametrize("rows", [1, 7, 90])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 26])
@pytest.mark.parametrize("is_limited", [True, False])
def test_a_batch_of_several_views_answers_what_each_key_alone_does(busy, rows, cache_bytes, is_limited):
    store, names, now_us = busy
    rng = np.random.default_rng(rows)
    pools = [[*names, None, "nobody", "once"], names[-3:], names, names[9:], [None], names[:20]]
    pools += [["nobody", *names], names]
    reader = Reader(VIEWS, store, cache_bytes)
    for _ in range(3):
        keys = [rng.choice(np.array(pool, object), rows).tolist() for pool in pools]
        t_us = now_us - rng.integers(0, 3, rows) * GRACE_US // 2  # so that some rows ask the same
        limits = rng.choice([700, 850, 1_000], rows) if is_limited else np.full(rows, NEVER - 1)
        with reader.snapshot() as snap:
            shown = t_us, limits if is_limited else None
            found = snap.read_views([(view, [own]) for view, own in zip(VIEWS, keys, strict=True)], *shown)
            for view, own, (values, status) in zip(VIEWS[:BEHIND], keys, found, strict=False):
                for i, key in enumerate(own):
                    if view.hop_us:
                        want, codes = (x[0] for x in snap.read(view, [(key,)], t_us[i : i + 1], limits[i : i + 1]))
                    else:
                        want, codes = simply(store, snap, view, key, int(t_us[i]), int(limits[i]))
                    assert values[i].tobytes() == want.tobytes(), (view.name, key)
                    assert np.array_equal(status[i], codes), (view.name, key)
        values, status = found[BEHIND]
        assert np.isnan(values).all()
        assert (status == Status.UNAVAILABLE).all()


def test_the_busy_store_has_keys_of_every_make(busy):
    store, names, now_us = busy
    reader = Reader(VIEWS, store)
    with reader.snapshot() as snap:
        snap.read_views([(view, [names]) for view in VIEWS], np.full(len(names), now_us))
    bodies = list(reader._cache.values())
    assert any(body.past is not None for body in bodies)
    assert any(body.hops for body in bodies)
    assert any(len(body.hollow) for body in bodies)
    assert any(body.is_whole for body in bodies)


def test_late_moments_are_unavailable_and_their_neighbours_are_not(busy):
    store, names, now_us = busy
    t_us = np.array([now_us, now_us - GRACE_US - 1, now_us - GRACE_US])
    with Reader(VIEWS, store).snapshot() as snap:
        for values, status in snap.read_views([(view, [names[-3:]]) for view in VIEWS[:BEHIND]], t_us):
            assert np.isnan(values[1]).all()
            assert (status[1] == Status.UNAVAILABLE).all()
            assert (status[[0, 2]] != Status.UNAVAILABLE).all()


def test_no_rows_and_no_views_are_answered_with_nothing(busy):
    store, _, _ = busy
    with Reader(VIEWS, store).snapshot() as snap:
        assert snap.read_views([], np.array([5])) == []
        for view, (values, status) in zip(
            VIEWS, snap.read_views([(view, [[]]) for view in VIEWS], np.empty(0, np.int64)), strict=True
        ):
            assert values.shape == status.shape == (0, len(view.column_names))


def test_heads_that_end_too_early_or_are_of_another_view_are_refused():
    panel = Panel.of((compile_view(VIEWS[1]), compile_view(VIEWS[2])))
    one, other = (len(layout.columns) for layout in panel.layouts)
    assert one != other

    def head(columns, events=0):
        return np.array([4 | columns << 16 | events << 32, *[0] * (HEAD - 1 + (3 + columns) * events)])

    nobody, ends = np.frombuffer(NOBODY, np.int64), np.array([0, 2, 3])
    good = np.concatenate((head(one, 2), nobody, head(other)))
    at, behind = panel.survey(good, ends)
    assert at.tolist() == [0, HEAD + 2 * (3 + one), HEAD + 2 * (3 + one) + 1, len(good)]
    assert behind == []
    for bad in (good[:-1], np.concatenate((good, nobody)), np.concatenate((head(other), nobody, head(one)))):
        with pytest.raises(FormatError, match="MS-F901"):
            panel.survey(np.ascontiguousarray(bad), ends)


def test_a_snapshot_of_an_unchanged_store_does_not_read_again_what_it_stands_at(busy):
    store, _, _ = busy
    reader = Reader(VIEWS, store)
    with reader.snapshot() as one, reader.snapshot() as two:
        assert one._root is two._root
    Folder(VIEWS[:BEHIND], store, SMALL).fold([record(902, "k1", 1.0, 901 * MINUTE_US)])
    with reader.snapshot() as three:
        assert three._root is not one._root
        assert (one.offset, three.offset) == (901, 902)
