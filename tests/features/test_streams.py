"""Views over several sources: one stream in the order of time, null in columns that a source does not have."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from world import expected, frames, record, shown, source, view

from mainspring import col
from mainspring.features.history import stream
from mainspring.features.layout import compile_view
from mainspring.features.replay import replay
from mainspring.features.streams import depth, streams_of, with_used

PAID, BOUGHT = source("paid", "x", "y"), source("bought", "x", "z")
BOTH = view(
    "both",
    (PAID, BOUGHT),
    ("rows", "count"),
    ("rows_20", "count", None, 20),
    ("x_20", "sum", "x", 20),
    ("y_20", "mean", "y", 20),
    ("z", "last", "z"),
    ("paid", "count", None, None, col("_source") == "paid"),
    ("share", "mean", col("_source") == "paid", 20),
)
KEYS = st.sampled_from(["a", "b", None])
NUMBERS = st.none() | st.sampled_from([0.0, 1.0, 2.5, -3.0])


@st.composite
def streams(draw, most=24):
    """Records of both sources in the order of the log."""
    rows = draw(
        st.lists(st.tuples(st.booleans(), KEYS, NUMBERS, NUMBERS, st.integers(0, 40), st.integers(0, 9)), max_size=most)
    )
    return [
        record(n, PAID if of else BOUGHT, f"i{n}", k, (x, y), t, t + late)
        for n, (of, k, x, y, t, late) in enumerate(rows, 1)
    ]


@given(streams(), KEYS, st.integers(0, 60), st.integers(0, 60))
def test_replay_of_several_sources_is_the_oracle_of_their_stream(records, key, t, known):
    events = stream(BOTH, frames((PAID, BOUGHT), records).__getitem__)
    asked = pl.DataFrame({"k": [key]}, schema={"k": pl.String})
    values, status = replay(BOTH, events, asked, np.array([t]), known_us=np.array([known]))
    assert shown(values[0], status[0]) == expected(BOTH, (PAID, BOUGHT), records, key, t, known - 1)


@given(streams(), st.permutations([PAID, BOUGHT]))
def test_a_batch_of_the_log_is_the_stream_that_history_shows(records, order):
    (made,) = streams_of([compile_view(BOTH)])
    batch = made.batch(records)
    history = stream(BOTH, frames(order, records).__getitem__).sort("_time", "_known_at", "_offset")
    if batch is None:
        assert history.is_empty()
        return
    assert batch.stamps[2].tolist() == history["_offset"].to_list()
    (live,) = made.values(batch.frame)
    (replayed,) = made.values(history)
    assert live.tobytes() == replayed.tobytes()


def test_a_used_view_comes_before_those_that_use_it_and_each_version_once():
    inner = view("inner", (PAID,), ("n", "count"))
    middle = view("middle", (PAID,), ("n", "sum", "inner__n"), using=(inner,))
    outer = view("outer", (PAID, BOUGHT), ("n", "sum", "middle__n"), ("m", "max", "inner__n"), using=(middle, inner))
    assert [depth(v) for v in (inner, middle, outer)] == [0, 1, 2]
    assert [v.name for v in with_used([outer, inner])] == ["inner", "middle", "outer"]
    made = streams_of([compile_view(v) for v in (outer, middle, inner)])
    assert [[layout.view.name for layout in one.layouts] for one in made] == [["inner"], ["middle"], ["outer"]]
