import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from mainspring.core.spool import Spool

DIES = """
import sys, os, signal
from pathlib import Path
from mainspring.core.spool import Spool
s = Spool(Path(sys.argv[1]), "dead", 10_000, segment_bytes=40)
for word in (b"one", b"two", b"three", b"four"):
    s.append(word, is_durable=False)
s.drop(s.peek())
"""


def drain(spool, most_bytes=0):
    out = []
    while frames := spool.peek(most_bytes):
        out += frames
        spool.drop(frames)
    return out


def die(folder, more=""):
    code = DIES + more + "\nos.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, folder], check=False).returncode == -signal.SIGKILL


def test_frames_come_back_in_order_and_an_empty_spool_leaves_no_file(tmp_path):
    spool = Spool(tmp_path, "a", 1_000)
    assert not spool
    assert all(spool.append(frame) for frame in (b"one", b"", b"three"))
    assert spool
    assert next(tmp_path.glob("*.spool")).stat().st_mode & 0o777 == 0o600
    assert drain(spool) == [b"one", b"", b"three"]
    assert not spool
    assert spool.size_bytes == 0
    assert spool.append(b"four")
    assert drain(spool) == [b"four"]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_as_many_frames_are_shown_at_once_as_the_bytes_asked_for_hold(tmp_path):
    spool = Spool(tmp_path, "a", 1_000_000)
    for n in range(5):
        spool.append(b"%d" % n * 10)
    assert [len(frames) for frames in (spool.peek(), spool.peek(20), spool.peek(29), spool.peek(1_000))] == [1, 2, 2, 5]
    spool.drop(spool.peek(20))
    assert spool.peek(20) == [b"2" * 10, b"3" * 10]
    long = b"long" * 25_000
    spool.append(long)
    assert drain(spool, 100)[-1] == long
    spool.close()


def test_a_full_spool_says_so_and_keeps_what_it_has(tmp_path):
    spool = Spool(tmp_path, "a", 100)
    assert spool.append(b"x" * 60)
    assert not spool.append(b"y" * 60)
    assert drain(spool) == [b"x" * 60]
    assert spool.append(b"z" * 60)
    spool.close()


def test_segments_that_are_sent_make_room_while_others_wait(tmp_path):
    spool = Spool(tmp_path, "a", 4_000, segment_bytes=500)
    for n in range(1_000):
        assert spool.append(b"%03d" % n * 20)
        if n >= 20:
            assert spool.peek() == [b"%03d" % (n - 20) * 20]
            spool.drop(spool.peek())
    assert sum(path.stat().st_size for path in tmp_path.glob("*.spool")) < 4_000
    spool.close()


def test_what_a_killed_process_left_is_adopted_from_where_it_was_to_its_torn_end(tmp_path):
    die(
        tmp_path,
        "os.write(s._active.handle, b''); os.pwrite(s._active.handle, b'MSPF\\xff\\0\\0\\0half', s._active.size)",
    )
    mine = Spool(tmp_path, "mine", 1_000)
    mine.append(b"mine")
    assert mine.adopt() > 0
    assert drain(mine, 1_000) == [b"two", b"three", b"four", b"mine"]
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_frame_is_dropped_where_it_lies_though_a_dead_process_left_a_segment_in_which_nothing_waits(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from mainspring.core.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 'dead', 10_000)\n"
        "spool.append(b'x' * 100); spool.drop(spool.peek()); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [path.name for path in tmp_path.glob("*.spool")] == ["dead.000001.spool"]
    spool = Spool(tmp_path, "a", 10_000)
    assert spool.adopt() == 0
    for frame in (b"first", b"second"):
        spool.append(frame)
    spool.drop([b"first"])
    assert (spool.size_bytes > 0, spool.peek()) == (True, [b"second"])
    spool.drop([b"second"])
    assert (bool(spool), spool.size_bytes, spool.peek()) == (False, 0, [])
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_segment_with_broken_bytes_is_set_aside_and_those_after_it_are_read(tmp_path):
    die(tmp_path)
    first = min(tmp_path.glob("*.spool"))
    raw = bytearray(first.read_bytes())
    raw[-1] ^= 1
    first.write_bytes(raw)
    mine = Spool(tmp_path, "mine", 1_000)
    mine.adopt()
    assert mine.peek() == []
    assert mine
    assert mine.set_aside() > 0
    assert drain(mine, 1_000) == [b"three", b"four"]
    mine.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".broken"]


def test_the_spool_of_a_living_process_is_left_alone(tmp_path):
    theirs, mine = Spool(tmp_path, "theirs", 1_000), Spool(tmp_path, "mine", 1_000)
    theirs.append(b"one")
    assert mine.adopt() == 0
    assert drain(theirs) == [b"one"]
    theirs.close()
    mine.close()


def test_what_is_larger_than_ones_own_spool_is_adopted_all_the_same(tmp_path):
    die(tmp_path, "s.append(b'x' * 5000)")
    small = Spool(tmp_path, "small", 100)
    assert small.adopt() > 5_000
    assert not small.append(b"y" * 60)
    assert drain(small)[-1] == b"x" * 5_000
    assert small.append(b"y" * 60)
    small.close()


def test_a_spool_of_format_1_is_read_and_one_of_an_unknown_format_is_left_where_it_is(tmp_path):
    old = b"".join(struct.pack("<4sI", b"MSP1", len(frame)) + frame for frame in (b"one", b"two")) + b"MSP1\x09"
    (tmp_path / "old.spool").write_bytes(old)
    (tmp_path / "new.000001.spool").write_bytes(b"MSP9" + bytes(40))
    spool = Spool(tmp_path, "mine", 1_000)
    spool.adopt()
    assert drain(spool) == [b"one", b"two"]
    spool.close()
    assert (tmp_path / "new.000001.spool").exists()
    assert not (tmp_path / "old.spool").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_leaves_no_half_frame(tmp_path, monkeypatch):
    spool = Spool(tmp_path, "a", 1_000)
    spool.append(b"one")
    full, own = os.open("/dev/full", os.O_RDWR), spool._active.handle
    truncated = []
    monkeypatch.setattr(spool._active, "handle", full)
    monkeypatch.setattr(os, "ftruncate", lambda handle, size: truncated.append((handle, size)))
    with pytest.raises(OSError, match="No space left"):
        spool.append(b"two")
    assert truncated == [(full, 16 + 12 + 3)]
    monkeypatch.setattr(spool._active, "handle", own)
    assert drain(spool) == [b"one"]
    os.close(full)
