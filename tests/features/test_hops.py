"""A view with ``hop=`` keeps one summary a hop, and answers as if it had kept every event."""

import numpy as np
import pytest
import world
from streams import EVENTS, HOUR_US, every_aggregate, feature, frame, keys_frame, make_view, read_live, record

from mainspring import col
from mainspring.core.errors import FormatError
from mainspring.definitions import ViewDef
from mainspring.features import body
from mainspring.features.fold import Folder
from mainspring.features.footprint import footprint
from mainspring.features.history import stream
from mainspring.features.hops import Hop, pack_hop, unpack_hop
from mainspring.features.layout import GRACE_US, compile_view
from mainspring.features.reader import Reader
from mainspring.features.replay import replay
from mainspring.features.state import Sizes

MINUTE_US = 60_000_000
HOP_US = 10 * MINUTE_US
TINY = Sizes(tail=3, keep=1, block=4, fan=2)
BOUNDED = (*every_aggregate(3 * HOUR_US, suffix="_3h"), *every_aggregate(12 * HOUR_US, suffix="_12h"))
TEXTS = every_aggregate(5 * HOUR_US, "s", "_s", ("last_k", "distinct", "approx_distinct", "top_k"))
SAW = make_view(*BOUNDED, *TEXTS, feature("three", "last_k", "x", 12 * HOUR_US, k=3), name="saw", hop_us=HOP_US)
EVER = make_view(
    *every_aggregate(4 * HOUR_US, suffix="_4h"), *every_aggregate(None, suffix="_ever"), name="ever", hop_us=HOP_US
)
TOLERANT = ("std", "var")


def assert_same(view, got, want):
    """Bit for bit, but for variances."""
    exact = [i for i, f in enumerate(view.features) for _ in f.slot_names if f.function not in TOLERANT]
    names = [n for f in view.features for n in f.slot_names]
    for i in range(len(names)):
        a, b = np.ascontiguousarray(got[0][:, i]), np.ascontiguousarray(want[0][:, i])
        if i in exact:
            assert a.tobytes() == b.tobytes(), (names[i], a, b)
        else:
            assert np.allclose(a, b, rtol=1e-12, atol=0, equal_nan=True), (names[i], a, b)
    assert np.array_equal(got[1], want[1])


def a_day(seed, n, spread_us):
    """Events of three keys: bursts and gaps, some late by minutes or hours, nulls, sizes that cancel."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(spread_us, n).astype(np.int64) + 1
    gaps[rng.random(n) < 0.01] += HOUR_US
    known = np.cumsum(gaps)
    late = np.where(rng.random(n) < 0.3, rng.integers(0, HOUR_US, n), 0) * np.where(rng.random(n) < 0.2, 6, 1)
    sizes = [1.0, 0.1, -0.1, 1e17, -1e17, 7.25]
    return [
        record(
            i + 1,
            "abc"[rng.choice(3, p=(0.7, 0.2, 0.1))],
            None if rng.random() < 0.1 else float(rng.choice(sizes)),
            int(t - away),
            int(t),
            s=str(rng.choice(["u", "vv", "w"])),
        )
        for i, (t, away) in enumerate(zip(known.tolist(), late.tolist(), strict=True))
    ]


@pytest.mark.parametrize("view", [SAW, EVER], ids=["windows", "and since the beginning"])
@pytest.mark.parametrize(("seed", "spread_us"), [(0, MINUTE_US // 2), (1, 2 * MINUTE_US)])
def test_hops_answer_as_a_replay_does_at_each_offset(store, monkeypatch, view, seed, spread_us):
    monkeypatch.setattr(body, "WHOLE_EVENTS", 4 if seed else 1_024)
    records, rng = a_day(seed, 1_200, spread_us), np.random.default_rng(seed)
    folder, reader = Folder([view], store, TINY), Reader([view], store)
    asked = ([], [], [], [], [])
    while folder.offset < len(records):
        folder.fold(records[folder.offset : folder.offset + int(rng.integers(1, 60))])
        clock = records[folder.offset - 1].known_at_us
        keys = [("abcd"[i],) for i in range(4)] * 2
        t_us = clock + rng.choice([0, 1, -GRACE_US, -GRACE_US // 2, HOP_US, 2 * HOUR_US], 8)
        with reader.snapshot() as snap:
            values, status = snap.read(view, keys, t_us)
        for rows, part in zip(asked, (keys, t_us, [folder.offset] * 8, values, status), strict=True):
            rows.extend(part)
    keys, t_us, offsets, values, status = asked
    again = replay(view, frame(records), keys_frame(keys), np.array(t_us), known_offset=np.array(offsets))
    assert_same(view, (np.array(values), np.array(status)), again)


@pytest.mark.parametrize("view", [SAW, EVER], ids=["windows", "and since the beginning"])
def test_a_view_built_from_history_and_folded_on_is_the_one_that_was_folded_from_the_start(store, view):
    records = a_day(3, 900, MINUTE_US)
    Folder([], store).fold(records[:500])
    folder = Folder([view], store, TINY)
    folder.backfill(view, frame(records), 300)
    folder.catch_up(view, records[300:500])
    folder.fold(records[500:])
    keys, t_us = [("a",), ("b",), ("c",)], [records[-1].known_at_us + 1] * 3
    values, status, _ = read_live(store, view, keys, t_us)
    again = replay(view, frame(records), keys_frame(keys), np.array(t_us), known_offset=np.full(3, 900))
    assert_same(view, (values, status), again)


def test_a_busy_key_takes_a_row_a_hop_and_not_its_events(store):
    sums = [feature(f"{f}_{h}h", f, "x", h * HOUR_US) for f in ("count", "sum", "std", "max", "last") for h in (1, 24)]
    exact, saw = make_view(*sums, name="exact"), make_view(*sums, name="saw", hop_us=HOP_US)
    folder = Folder([exact, saw], store)
    rng, step_us = np.random.default_rng(0), 2_000_000
    amounts = rng.lognormal(3, 1, 43_200).tolist()
    for first in range(0, len(amounts), 2_000):
        folder.fold([record(i + 1, "a", amounts[i], i * step_us) for i in range(first, first + 2_000) if i < 43_200])
    views = store.root().views
    bytes_of = {v.name: footprint(store, views[f"{v.name}@{v.version}"]).bytes for v in (exact, saw)}
    event_bytes = 8 * 4
    open_hops, group = (HOUR_US + HOP_US) // step_us * event_bytes, 8_192 * event_bytes
    assert bytes_of["exact"] > len(amounts) * event_bytes
    assert bytes_of["saw"] < 24 * 6 * 700 + open_hops + group


def test_an_event_that_comes_hours_late_counts_in_the_hop_that_it_belongs_to(store):
    saw = make_view(feature("n", "count", "x", 12 * HOUR_US), feature("least", "min", "x", 12 * HOUR_US), hop_us=HOP_US)
    folder = Folder([saw], store)
    folder.fold([record(i + 1, "a", 5.0, i * 1_000_000) for i in range(20_000)])
    folder.fold([record(20_001 + i, "a", 5.0, 20_000_000_000 + i * 1_000_000) for i in range(300)])
    clock = 20_299_000_000
    late = [(3 * HOP_US + 7, 1.0), (HOUR_US, 2.0), (-3 * HOUR_US, 3.0)]
    folder.fold([record(20_301 + i, "a", x, at, clock + 1 + i) for i, (at, x) in enumerate(late)])
    before, after = (clock + w + 12 * HOUR_US for w in (-2 * HOUR_US, -2 * HOUR_US - HOP_US))
    values, _, _ = read_live(store, saw, [("a",)] * 2, [clock + 9, max(before, after)])
    assert values[0].tolist() == [20_303.0, 1.0]
    assert values[1, 1] == 5.0


def test_a_view_that_uses_one_with_hops_sees_of_it_what_a_replay_sees(store):
    paid = world.source("paid", "x")
    saw = world.view(
        "saw", (paid,), ("n", "count", None, 4 * HOUR_US), ("mean", "mean", "x", 9 * HOUR_US), hop_us=HOP_US
    )
    user = world.view(
        "user",
        (paid,),
        ("most", "max", "saw__n", 9 * HOUR_US),
        ("sum", "sum", col("x") - col("saw__mean")),
        using=(saw,),
    )
    rng = np.random.default_rng(4)
    known = np.cumsum(rng.integers(1, MINUTE_US, 1_200))
    late = np.where(rng.random(1_200) < 0.2, rng.integers(0, 5 * HOUR_US, 1_200), 0)
    records = [
        world.record(i + 1, paid, f"i{i}", "ab"[i % 5 == 0], (float(i % 7),), int(t - away), int(t))
        for i, (t, away) in enumerate(zip(known.tolist(), late.tolist(), strict=True))
    ]
    folder = Folder([user], store, TINY)
    while folder.offset < 1_200:
        folder.fold(records[folder.offset : folder.offset + int(rng.integers(1, 90))])
    t_us = np.full(2, records[-1].known_at_us + 1)
    for view in (saw, user):
        values, status, _ = read_live(store, view, [("a",), ("b",)], t_us)
        events = stream(view, world.frames((paid,), records).__getitem__)
        again = replay(view, events, keys_frame([("a",), ("b",)]), t_us, known_offset=np.full(2, 1_200))
        assert_same(view, (values, status), again)


def test_a_view_over_corrected_rows_or_vectors_keeps_its_events():
    corrected = world.source("corrected", "x", corrects=True)
    counted = world.view("counted", (corrected,), ("n", "count", None, HOUR_US), hop_us=HOP_US)
    vectors = ViewDef("vectors", (EVENTS,), ("k",), (feature("v", "last", "v", HOUR_US),), hop_us=HOP_US)
    assert not compile_view(counted).makes_hops
    assert not compile_view(vectors).makes_hops
    assert compile_view(SAW).makes_hops


def test_a_hop_comes_out_of_the_store_as_it_went_in_and_another_format_is_refused():
    layout = compile_view(EVER)
    hop, rng = Hop.nothing(layout), np.random.default_rng(0)
    for sign in (1.0, -1.0, -1.0):
        values = sign * rng.lognormal(0, 200, (len(layout.columns), 9))
        stamps = np.sort(rng.integers(-(1 << 60), 1 << 60, (3, 9)))
        hop.absorb(layout, np.concatenate((stamps, values.view(np.int64))))
        again = unpack_hop(pack_hop(hop))
        assert all(np.array_equal(a, b) for a, b in zip(hop.ints, again.ints, strict=True))
        assert np.array_equal(hop.squares, again.squares)
        assert hop.moments.tobytes() == again.moments.tobytes()
        assert {n: p.tobytes() for n, p in hop.parts.items()} == {n: p.tobytes() for n, p in again.parts.items()}
    raw = bytearray(pack_hop(hop))
    raw[1] += 1
    with pytest.raises(FormatError, match="MS-F901"):
        unpack_hop(bytes(raw))
