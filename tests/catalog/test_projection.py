"""Whatever decisions come, and however the log is cut into batches, the catalog stays sound."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.catalog import Catalog

VERSIONS = ("v1", "v2", "v3")
STAGES = ({"stage": "ramp:0", "weight": 0.05}, {"stage": "ramp:1", "weight": 0.5})
decision = st.one_of(
    st.tuples(st.just("release"), st.sampled_from(VERSIONS).map(lambda v: {"version": v})),
    st.tuples(st.just("stage"), st.sampled_from(STAGES)),
    st.tuples(st.sampled_from(["promote", "rollback"]), st.sampled_from([{}, {"version": "v1"}, {"version": "v2"}])),
    st.tuples(st.sampled_from(["pause", "resume"]), st.just({})),
)


def events_of(steps):
    known = [("version", {"version": v, "path": f"p/{v}"}) for v in VERSIONS]
    for offset, (kind, numbers) in enumerate([*known, *steps], start=1):
        yield (
            offset,
            {
                "decision_id": f"d{offset}",
                "decided_at": offset,
                "kind": kind,
                "model": "m",
                "actor": "a",
                "reason": "",
                "numbers": numbers,
            },
        )


@settings(max_examples=40)
@given(st.lists(decision, max_size=14), st.data())
def test_a_log_projected_in_any_batches_gives_one_sound_catalog(steps, data):
    events = list(events_of(steps))
    with (
        tempfile.TemporaryDirectory() as folder,
        Catalog.open(f"sqlite:///{Path(folder) / 'one.db'}") as one,
        Catalog.open(f"sqlite:///{Path(folder) / 'many.db'}") as many,
    ):
        one.project(events)
        at = 0
        while at < len(events):
            until = data.draw(st.integers(at + 1, len(events)))
            back = data.draw(st.integers(0, at))
            many.project(events[back:until])
            at = until
        assert one.routes() == many.routes()
        assert one.rollouts() == many.rollouts()
        assert one.versions() == many.versions()
        assert one.decisions() == many.decisions()
        _is_sound(one)


def _is_sound(catalog):
    states = {v.version: v.state for v in catalog.versions()}
    alive = [r for r in catalog.rollouts() if r.state in ("running", "paused")]
    assert len(alive) <= 1
    for route in catalog.routes():
        assert states[route.champion] == "champion"
        assert list(states.values()).count("champion") == 1
        assert route.challenger != route.champion
        assert route.last_good != route.champion
        assert 0.0 <= route.weight <= 1.0
        if route.challenger is not None:
            assert states[route.challenger] == "challenger"
            assert route.challenger_path == f"p/{route.challenger}"
    for rollout in alive:
        assert rollout.exposure_us(1_000) >= 0
