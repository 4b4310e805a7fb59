"""Clocks: the wall's, one that is told, and one that processes share."""

import subprocess
import sys

from mainspring.core.clock import ManualClock, SharedClock, WallClock


def test_the_wall_clock_goes_on_and_is_no_test_clock():
    clock = WallClock()
    first = clock.now_us()
    assert clock.now_us() >= first > 1_600_000_000_000_000
    assert not clock.is_test


def test_a_manual_clock_stands_where_it_was_set():
    clock = ManualClock(5)
    assert (clock.now_us(), clock.is_test) == (5, True)
    clock.set(9)
    assert clock.now_us() == 9


def test_a_shared_clock_is_read_by_another_process(tmp_path):
    path = tmp_path / "clock"
    clock = SharedClock(path)
    clock.set(-7)
    code = (
        "import sys; from pathlib import Path; from mainspring.core.clock import SharedClock;"
        "c = SharedClock(Path(sys.argv[1])); print(c.now_us()); c.settle(11)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert out == "-7\n"
    assert clock.settled_us() == 11
    assert clock.now_us() == -7


def test_a_shared_clock_opened_again_keeps_its_time(tmp_path):
    SharedClock(tmp_path / "clock").set(42)
    assert SharedClock(tmp_path / "clock").now_us() == 42
    assert (tmp_path / "clock").stat().st_mode & 0o777 == 0o600


def test_a_reader_never_sees_a_half_written_time(tmp_path):
    path = tmp_path / "clock"
    clock = SharedClock(path)
    before, after = 0x0102_0304_0506_0708, 0x7172_7374_7576_7778
    clock.set(before)
    code = (
        "import sys; from pathlib import Path; from mainspring.core.clock import SharedClock;"
        "c = SharedClock(Path(sys.argv[1])); times = tuple(map(int, sys.argv[2:]));"
        "[c.set(times[i % 2]) for i in range(3_000_000)]; c.settle(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path), str(before), str(after)]) as writer:
        seen = set()
        while writer.poll() is None and not clock.settled_us():
            seen.add(clock.now_us())
    assert writer.returncode == 0
    assert seen == {before, after}
