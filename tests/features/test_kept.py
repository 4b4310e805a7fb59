"""What a key has let go of counts in windows without an end as if it were there, whatever the order it went in."""

import numpy as np
import pytest
from streams import every_aggregate, feature, frame, keys_frame, make_view, record

from mainspring.core.errors import FormatError
from mainspring.features import kept, scans
from mainspring.features import kernels as k
from mainspring.features.layout import compile_view
from mainspring.features.replay import replay
from mainspring.features.streams import Stream

SCANS = ("last_k", "ewma", "trend", "distinct", "approx_distinct", "quantile", "top_k")
VIEW = make_view(
    *every_aggregate(None, functions=SCANS),
    *every_aggregate(None, of="s", suffix="_s", functions=("last_k", "distinct", "approx_distinct", "top_k")),
    feature("three", "last_k", "x", k=3),
    feature("first", "first", "v"),
    feature("last", "last", "v"),
    feature("slow", "ewma", "x", half_life_us=100_000),
)
LAYOUT = compile_view(VIEW)


def events_of(records):
    """The records as the live state has them: int64[3 + C, n]."""
    batch = Stream([LAYOUT]).batch(records)
    (values,) = Stream([LAYOUT]).values(batch.frame)
    return np.concatenate((batch.stamps, values.view(np.int64)))


def answer(parts, events, t_us):
    """What ``scans.answer`` says of a key that holds ``events`` and has let go of ``parts``."""
    n = len(t_us)
    keys = np.array([[0, events.shape[1]], [0, 0], [0, 0], [0, 0]], np.int64)
    moments = np.zeros((4, n), np.int64)
    moments[k.M_T], moments[k.M_LIMIT], moments[k.M_ROW] = t_us, k.NEVER - 1, np.arange(n)
    out, status = np.empty((LAYOUT.width, n)), np.empty((LAYOUT.width, n), np.uint8)
    events = np.ascontiguousarray(events)
    values = np.ascontiguousarray(events[3:]).view(np.float64)
    laid_out = events[0].copy(), events[2].copy(), np.empty(0, np.int64), values, keys, moments
    scans.answer(*laid_out, 0, n, *LAYOUT.scanned, *kept.lay_out(LAYOUT, [parts]), out, status)
    return out.T, status.T


@pytest.mark.parametrize("seed", range(20))
def test_what_was_let_go_of_in_any_order_counts_as_if_it_were_there(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 80))
    records = [
        record(
            i + 1,
            "a",
            None if rng.random() < 0.1 else float(rng.choice([rng.normal(), 0.1, 0.0, 5.0, 1e300, -5e-324])),
            int(t),
            s=str(rng.choice(["u", "vv", "w"])),
            v=None if rng.random() < 0.3 else [float(rng.integers(5)), 1.0, 2.0],
        )
        for i, t in enumerate(np.sort(rng.integers(-60, 60, n)))
    ]
    events = events_of(records)
    gone = int(rng.integers(0, n + 1))
    parts: dict[str, np.ndarray] = {}
    for piece in np.array_split(rng.permutation(gone), 3):
        kept.absorb(LAYOUT, parts, events[:, np.sort(piece)])
    t_us = np.sort(rng.integers(records[gone - 1].time_us + 1 if gone else -60, 130, 4))
    values, status = answer(parts, events[:, gone:], t_us)
    again, codes = replay(VIEW, frame(records), keys_frame([("a",)] * 4), t_us, known_us=1 << 60)
    assert values.tobytes() == np.ascontiguousarray(again).tobytes()
    assert np.array_equal(status, codes)


def test_parts_of_other_keys_lie_apart():
    events = [events_of([record(1, "a", x, 0, s="u", v=[x, x, x])]) for x in (1.0, 2.0)]
    pasts = [{}, {}, {}]
    for past, own in zip(pasts[::2], events, strict=True):
        kept.absorb(LAYOUT, past, own)
    body, starts = kept.lay_out(LAYOUT, pasts)
    assert starts.shape == (3, len(LAYOUT.scan_plan) + 1)
    assert starts[0, 0] == 0
    assert (starts[1] == starts[0, -1]).all()
    assert starts[2, 0] == starts[1, 0]
    assert starts[2, -1] == len(body) == 2 * starts[0, -1]


def test_a_part_of_another_release_is_refused():
    parts: dict[str, np.ndarray] = {}
    events = events_of([record(1, "a", 1.0, 0)])
    kept.absorb(LAYOUT, parts, events)
    for part in parts.values():
        part[0] += 1
    with pytest.raises(FormatError, match="MS-F903"):
        kept.lay_out(LAYOUT, [parts])
    with pytest.raises(FormatError, match="MS-F903"):
        kept.absorb(LAYOUT, parts, events)
