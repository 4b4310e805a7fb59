import os
import subprocess
import sys

from mainspring.serving.spool import Spool, adopt_orphans


def drain(spool):
    out = []
    while (frame := spool.peek()) is not None:
        out.append(frame)
        spool.drop(frame)
    return out


def test_frames_come_back_in_order_and_an_empty_spool_leaves_no_file(tmp_path):
    spool = Spool(tmp_path, "a", 1_000)
    assert not spool
    assert all(spool.append(frame) for frame in (b"one", b"", b"three"))
    assert spool
    assert spool.path.stat().st_mode & 0o777 == 0o600
    assert drain(spool) == [b"one", b"", b"three"]
    assert not spool
    assert spool.size_bytes == 0
    assert spool.append(b"four")
    assert drain(spool) == [b"four"]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_says_so_and_keeps_what_it_has(tmp_path):
    spool = Spool(tmp_path, "a", 100)
    assert spool.append(b"x" * 60)
    assert not spool.append(b"y" * 60)
    assert drain(spool) == [b"x" * 60]
    spool.close()


def test_what_a_killed_process_left_is_adopted_up_to_its_torn_end(tmp_path):
    code = "import sys, os, signal; from pathlib import Path; from mainspring.serving.spool import Spool\n"
    code += "s = Spool(Path(sys.argv[1]), 'dead', 1000); s.append(b'one'); s.append(b'two')\n"
    code += "os.write(s._handle, b'MSP1\\xff\\x00\\x00\\x00half'); os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    mine = Spool(tmp_path, "mine", 1_000)
    assert adopt_orphans(tmp_path, mine) == 2
    assert drain(mine) == [b"one", b"two"]
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_the_spool_of_a_living_process_is_left_alone(tmp_path):
    theirs, mine = Spool(tmp_path, "theirs", 1_000), Spool(tmp_path, "mine", 1_000)
    theirs.append(b"one")
    assert adopt_orphans(tmp_path, mine) == 0
    assert drain(theirs) == [b"one"]
    theirs.close()
    mine.close()


def test_what_does_not_fit_is_not_lost(tmp_path):
    big = Spool(tmp_path, "big", 1_000)
    big.append(b"x" * 500)
    os.close(big._handle)
    big._lease.release()
    small = Spool(tmp_path, "small", 100)
    assert adopt_orphans(tmp_path, small) == 0
    assert (tmp_path / "big.spool").exists()
    small.close()
