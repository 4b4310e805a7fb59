"""Windows against two other ways to find them: DuckDB's range joins, and counting by hand."""

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import HOUR_US, every_aggregate, feature, make_view

from mainspring.features import tree, windows
from mainspring.features.crew import ALONE
from mainspring.features.replay import replay

FUNCTIONS = ("count", "sum", "mean", "min", "max", "var", "first", "last")
SPANS = (HOUR_US, 24 * HOUR_US, None)


def history(n, keys, seed):
    """Events with whole numbers, so that every way of adding is exact; some late, some null, a busy first key."""
    rng = np.random.default_rng(seed)
    t = rng.integers(-40 * HOUR_US, 40 * HOUR_US, n) // 1_000 * 1_000
    return pl.DataFrame(
        {
            "k": pl.Series(np.array([f"key{i}" for i in range(keys)])[np.minimum(rng.geometric(0.3, n), keys) - 1]),
            "x": pl.Series(rng.integers(-50, 50, n), dtype=pl.Float64).replace(7.0, None),
            "n": pl.int_range(n, eager=True),
            "_time": pl.Series(t).cast(pl.Datetime("us", "UTC")),
            "_known_at": pl.Series(t + rng.choice([0, HOUR_US // 3, 30 * HOUR_US], n)).cast(pl.Datetime("us", "UTC")),
            "_offset": pl.int_range(1, n + 1, eager=True),
        }
    ).with_columns(at=pl.col("_time"), s=pl.lit(None, pl.String), v=pl.lit(None, pl.Array(pl.Float64, 3)))


@pytest.mark.parametrize("hop_us", [None, 5 * 60_000_000, 7 * HOUR_US])
def test_windows_are_those_of_a_range_join_in_duckdb(hop_us):
    events = history(3_000, 5, 1)
    rng = np.random.default_rng(2)
    m = 300
    # On an event, on a hop's edge, and anywhere.
    t = np.concatenate(
        [
            events["_time"].to_physical().to_numpy()[:100],
            rng.integers(-300, 300, 100) * (hop_us or HOUR_US // 12),
            rng.integers(-45 * HOUR_US, 45 * HOUR_US, 100),
        ]
    )
    known = t + rng.integers(0, HOUR_US, m)
    moments = pl.DataFrame(
        {"k": np.array([f"key{i}" for i in range(6)])[rng.integers(0, 6, m)], "t": t, "known": known}
    )
    features = [f for i, w in enumerate(SPANS) for f in every_aggregate(w, suffix=f"_{i}", functions=FUNCTIONS)]
    view = make_view(*features, hop_us=hop_us)
    values, _ = replay(view, events, moments.select("k"), t, known_us=known)

    db = duckdb.connect()
    db.register(
        "e", events.select("k", "x", t=pl.col("_time").to_physical(), u=pl.col("_known_at").to_physical(), o="_offset")
    )
    db.register("m", moments.with_row_index("row"))
    for i, span in enumerate(SPANS):
        left = "true" if span is None else f"e.t >= floor((m.t - {span}) / {hop_us or 1}::double) * {hop_us or 1}"
        theirs = db.sql(
            f"""select count(e.x), sum(e.x), avg(e.x), min(e.x), max(e.x), var_samp(e.x),
                       arg_min(e.x, (e.t, e.u, e.o)), arg_max(e.x, (e.t, e.u, e.o))
                from m left join e on e.k = m.k and e.x is not null and e.t < m.t and {left} and e.u < m.known
                group by m.row order by m.row"""
        ).pl()
        for name, column in zip(FUNCTIONS, theirs.get_columns(), strict=True):
            ours = values[:, [f.name for f in features].index(f"{name}_{i}")]
            wanted = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
            if name in ("var", "mean"):
                np.testing.assert_allclose(ours, wanted, rtol=1e-12, atol=1e-12)
            else:
                np.testing.assert_array_equal(ours, wanted)


@given(st.integers(-100, 100), st.integers(1, 200), st.integers(1, 50))
def test_a_window_begins_at_the_hop_before_its_length_towards_minus_infinity(t, window, hop):
    edge = windows.left_edge(t, window, hop)
    assert edge % hop == 0
    assert edge <= t - window < edge + hop


@pytest.mark.parametrize("hop", [1, 7, 86_400_000_000])
def test_the_left_edge_of_the_longest_window_of_the_first_moment_is_an_int64(hop):
    edge = windows.left_edge(-(1 << 62), 1 << 62, hop)
    assert -(1 << 63) <= edge <= -(1 << 63) + hop


@given(st.lists(st.integers(-20, 20), max_size=60).map(sorted), st.data())
def test_a_place_is_found_from_wherever_the_search_begins(numbers, data):
    numbers = np.array(numbers, np.int64)
    low = data.draw(st.integers(0, len(numbers)))
    high = data.draw(st.integers(low, len(numbers)))
    hint, t = data.draw(st.integers(-3, len(numbers) + 3)), data.draw(st.integers(-22, 22))
    assert windows.seek(numbers, low, high, hint, t) == low + np.searchsorted(numbers[low:high], t)


@st.composite
def trees(draw):
    """Stamps of events of some keys in uneven leaves and groups, some leaves without a summary."""
    sizes = draw(st.lists(st.lists(st.integers(1, 6), max_size=9), min_size=1, max_size=4))
    begins = np.cumsum([0, *(n for key in sizes for n in key)])
    key_leaves = np.cumsum([0, *map(len, sizes)])
    n = int(begins[-1])
    stamps = np.array(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), np.int64)
    untils = np.array([s + draw(st.integers(1, 12)) for s in stamps.tolist()], np.int64)
    if draw(st.booleans()):
        untils = untils[:0]
    grown = tree.grow(begins, key_leaves, draw(st.integers(2, 4)))
    return begins, key_leaves, stamps, untils, grown, draw(st.sets(st.integers(0, 40)))


@given(trees(), st.data())
def test_pieces_hold_every_event_of_a_window_once_and_whole_nodes_only_what_is_seen(made, data):
    begins, key_leaves, stamps, untils, grown, bare = made
    nodes, n = grown.nodes, int(begins[-1])
    values, needs = np.arange(n, dtype=float)[None], np.array([tree.SUM])
    sums = np.empty((1, len(nodes), tree.SUMMARY))
    tree.summarise_nodes(values, stamps, untils, nodes, needs, 0, len(begins) - 1, sums)
    for leaf in bare & set(range(len(begins) - 1)):
        nodes[leaf, tree.N_NEWEST] = tree.NEVER
    for offset, child in grown.children:
        tree.merge_nodes(nodes, child, needs, offset, 0, len(child), sums)
    key = data.draw(st.integers(0, len(key_leaves) - 2))
    low, high = int(begins[key_leaves[key]]), int(begins[key_leaves[key + 1]])
    left = data.draw(st.integers(low, high))
    right = data.draw(st.integers(left, high))
    limit = data.draw(st.integers(-1, 12))
    seen = (stamps <= limit) & (limit < untils if len(untils) else True)
    leaf = windows.leaf_before(nodes, key_leaves[key], key_leaves[key + 1], data.draw(st.integers(-2, 40)), right)
    pieces = np.empty((2 * len(nodes) + 4, 3), np.int64)
    count, corner = windows.cut(nodes, leaf, left, right, limit, pieces, 0)
    held = []
    for node, first, after in pieces[:count].tolist():
        a, b = first, after
        if node >= 0:
            a, b = nodes[node, tree.N_BEGIN], nodes[nodes[node, tree.N_AFTER], tree.N_BEGIN]
            assert sums[0, node, tree.S_S] == sum(range(a, b))
        if node != windows.CHECK:
            assert seen[a:b].all()
        held += range(a, b)
    assert sorted(held) == list(range(left, right))
    assert corner == windows.leaf_before(nodes, key_leaves[key], key_leaves[key + 1], 0, left)


def test_a_busy_key_is_read_through_few_pieces():
    n = 300_000
    stamps = np.arange(n)
    nodes, _, leaves = tree.build(
        np.zeros((0, n)), stamps, stamps[:0], np.array([0, n]), np.zeros(0, np.int64), 16, 16, ALONE
    )
    pieces = np.empty((n, 3), np.int64)
    count, _ = windows.cut(nodes, int(leaves[1]) - 1, 5, n - 3, n, pieces, 0)
    assert count < 2 * 16 * 5


def test_features_of_one_view_may_have_windows_of_all_kinds():
    events = history(200, 2, 3)
    view = make_view(
        feature("ever", "first", "x"),
        feature("short", "first", "x", HOUR_US),
        feature("kept", "first", "x", 24 * HOUR_US, ttl=HOUR_US),
    )
    values, status = replay(view, events, events.select("k"), events["_time"], known_us=1 << 60)
    assert (status[np.isnan(values)] != 0).all()
    assert {0, 1, 2} == set(status.ravel().tolist())
