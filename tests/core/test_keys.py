"""Keys: who is let in, for what, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ConfigError, RefusedError
from mainspring.core.keys import Key, Keyring, LimitedError, Rates, UnauthorizedError, check_scope, digest_of, new_key

SECOND_NS = 1_000_000_000


class World:
    """A keyring whose clock stands still until it is moved."""

    def __init__(self, path, *keys):
        self.now_ns = 10**15
        self.ring = Keyring("internal", Rates(path / "rates"), lambda: self.now_ns)
        self.ring.use(keys)

    def asks(self, text, *scopes):
        return self.ring.check(f"Bearer {text}", *scopes)


def made(number=1, per_s=None, burst=1, scopes=("predict:late",), revoked_us=None):
    key_id, text = new_key()
    return text, Key(key_id, number, "shop", digest_of(text), scopes, per_s, burst, 1, revoked_us)


def test_a_key_opens_what_its_scopes_say_and_nothing_else(tmp_path):
    text, key = made(scopes=("predict:late", "events:*"))
    world = World(tmp_path, key)
    assert world.asks(text, "predict:late") == key
    world.asks(text, "events:anything")
    world.asks(text, "read", "predict:late")
    for scopes in (("predict:other",), ("read",), ("admin",), ("predict:late2",)):
        with pytest.raises(RefusedError, match="MS-S013"):
            world.asks(text, *scopes)
    assert world.ring.tallies[key.key_id].allowed == 3
    assert world.ring.tallies[key.key_id].forbidden == 4
    assert f'mainspring_key_requests_total{{key="{key.key_id}",outcome="forbidden"}} 4' in world.ring.metrics()


def test_admin_and_the_projects_own_token_open_everything(tmp_path):
    text, key = made(scopes=("admin",))
    world = World(tmp_path, key)
    for one, whose in ((text, key), ("internal", None)):
        assert world.asks(one, "predict:late") == whose
        assert world.asks(one, "admin") == whose


def test_whatever_is_no_key_is_nobody(tmp_path):
    text, key = made()
    gone, revoked = made(number=2, revoked_us=5)
    world = World(tmp_path, key, revoked)
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    bad = ["", text, "Bearer", f"Basic {text}", f"Bearer {other}", f"Bearer {gone}", f"Bearer ms_{key.key_id}_"]
    for header in (*bad, "Bearer \ud800"):
        with pytest.raises(UnauthorizedError, match="MS-S012"):
            world.ring.check(header, "predict:late")
    assert world.ring.unauthorized == 8
    assert world.ring.tallies[key.key_id].allowed == 0
    world.asks(f" {text} ", "predict:late")
    world.ring.check(f"bearer {text}", "predict:late")


@given(st.floats(0.1, 1_000), st.integers(1, 20), st.lists(st.integers(0, 3 * SECOND_NS), max_size=60))
def test_a_key_is_let_in_as_often_as_its_bucket_has_tokens(tmp_path_factory, per_s, burst, pauses):
    text, key = made(per_s=per_s, burst=burst)
    world = World(tmp_path_factory.mktemp("rates"), key)
    each_ns = round(SECOND_NS / per_s)
    full_ns = (
        each_ns * burst
    )  # the oracle: a bucket of time, refilled as it passes, from which a request takes its share
    for pause_ns in pauses:
        world.now_ns += pause_ns
        full_ns = min(each_ns * burst, full_ns + pause_ns)
        if full_ns >= each_ns:
            full_ns -= each_ns
            world.asks(text, "predict:late")
        else:
            with pytest.raises(LimitedError) as refused:
                world.asks(text, "predict:late")
            assert refused.value.retry_after_s >= (each_ns - full_ns) / SECOND_NS


def test_processes_of_a_project_share_the_rate_of_a_key(tmp_path):
    text, key = made(per_s=1, burst=3)
    one, two = World(tmp_path, key), World(tmp_path, key)
    one.asks(text, "predict:late")
    two.asks(text, "predict:late")
    one.asks(text, "predict:late")
    for world in (one, two):
        with pytest.raises(LimitedError, match="MS-S014"):
            world.asks(text, "predict:late")


def test_a_clock_that_begins_again_keeps_nobody_out(tmp_path):
    text, key = made(per_s=1, burst=1)
    world = World(tmp_path, key)
    world.asks(text, "predict:late")
    world.now_ns = 5  # the machine was started anew
    world.asks(text, "predict:late")


@pytest.mark.parametrize("scope", ["", "all", "predict", "predict:", "predict:Late", "events:a b", "reads", "admin:x"])
def test_what_is_no_scope_is_refused(scope):
    with pytest.raises(ConfigError, match="MS-C096"):
        check_scope(scope)
