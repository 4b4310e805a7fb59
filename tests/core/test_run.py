import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from mainspring.core.errors import ConfigError, UnavailableError
from mainspring.core.run import (
    Door,
    Lease,
    door_of,
    internal_token,
    join_door,
    leave_door,
    read_door,
    read_doors,
    remove_door,
    write_door,
)

_JOIN = "import sys; from pathlib import Path; from mainspring.core.run import join_door, leave_door\n"
_JOIN += "run = Path(sys.argv[1]); join_door(run, 'gateway', sys.argv[2]); print(flush=True)\n"
_JOIN += "sys.stdin.read(); leave_door(run, 'gateway')"
_HOLD = "import sys; from pathlib import Path; from mainspring.core.run import Lease\n"
_HOLD += "l = Lease(Path(sys.argv[1])); print(l.acquire(), flush=True); sys.stdin.read()"


def _holder(path):
    child = subprocess.Popen([sys.executable, "-c", _HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"True\n"
    return child


def _end(child):
    child.kill()
    child.communicate()


def test_a_door_is_read_by_whoever_asks_and_by_nobody_else(tmp_path):
    write_door(tmp_path / "run", "gateway", "http://127.0.0.1:1")
    write_door(tmp_path / "run", "gateway", "http://127.0.0.1:2")
    assert read_door(tmp_path / "run", "gateway") == "http://127.0.0.1:2"
    assert (tmp_path / "run" / "gateway.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["gateway.json"]


def test_a_door_of_a_process_that_is_gone_is_no_door(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / "intake.json").write_bytes(msgspec.json.encode(Door("http://127.0.0.1:1", child.pid)))
    assert read_door(tmp_path, "intake") is None
    assert read_door(tmp_path, "console") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times come from /proc")
def test_a_recycled_pid_is_not_taken_for_the_process_that_had_it(tmp_path):
    (tmp_path / "intake.json").write_bytes(msgspec.json.encode(Door("http://127.0.0.1:1", os.getpid(), started=1)))
    assert read_door(tmp_path, "intake") is None


def _joined(path, url):
    argv = [sys.executable, "-c", _JOIN, path, url]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"\n"
    return child


def test_several_processes_have_a_door_at_once_and_who_leaves_takes_back_its_own_alone(tmp_path):
    one, two = _joined(tmp_path, "http://127.0.0.1:1"), _joined(tmp_path, "http://127.0.0.1:2")
    join_door(tmp_path, "gateway", "http://127.0.0.1:3")
    assert {door.pid: door.url[-1] for door in read_doors(tmp_path, "gateway")} == {
        one.pid: "1",
        two.pid: "2",
        os.getpid(): "3",
    }
    assert read_door(tmp_path, "gateway") == "http://127.0.0.1:1"  # it was first
    assert door_of(tmp_path, "gateway", two.pid).url == "http://127.0.0.1:2"
    leave_door(tmp_path, "gateway")
    assert [door.pid for door in read_doors(tmp_path, "gateway")] == [one.pid, two.pid]
    one.communicate()  # it leaves: whoever wants any one finds the other
    assert read_door(tmp_path, "gateway") == "http://127.0.0.1:2"
    _end(two)  # it leaves its file, and who comes next removes it
    assert read_doors(tmp_path, "gateway") == []
    join_door(tmp_path, "gateway", "http://127.0.0.1:4")
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["gateway", f"gateway_{os.getpid()}"]
    assert read_door(tmp_path, "gateway") == "http://127.0.0.1:4"


def test_a_process_that_joins_does_not_take_the_first_ones_file_while_it_lives(tmp_path):
    one = _joined(tmp_path, "http://127.0.0.1:1")
    before = (tmp_path / "gateway.json").read_bytes()
    join_door(tmp_path, "gateway", "http://127.0.0.1:2")
    assert (tmp_path / "gateway.json").read_bytes() == before
    one.communicate()
    assert not (tmp_path / "gateway.json").exists()
    join_door(tmp_path, "gateway", "http://127.0.0.1:2")
    assert (tmp_path / "gateway.json").exists()


def test_a_torn_door_file_is_no_door(tmp_path):
    (tmp_path / "intake.json").write_bytes(b'{"url": "http')
    assert read_door(tmp_path, "intake") is None


def test_only_the_writer_takes_its_door_back(tmp_path):
    (tmp_path / "intake.json").write_bytes(msgspec.json.encode(Door("http://127.0.0.1:1", os.getppid())))
    remove_door(tmp_path, "intake")
    assert read_door(tmp_path, "intake") == "http://127.0.0.1:1"
    write_door(tmp_path, "intake", "http://127.0.0.1:2")
    remove_door(tmp_path, "intake")
    assert read_door(tmp_path, "intake") is None


def test_a_door_has_a_plain_name(tmp_path):
    with pytest.raises(ConfigError, match="MS-C001"):
        write_door(tmp_path, "../gateway", "http://127.0.0.1:1")


def test_every_process_is_given_the_same_token(tmp_path):
    run = tmp_path / "run"
    code = "import sys; from pathlib import Path; from mainspring.core.run import internal_token\n"
    code += "print(internal_token(Path(sys.argv[1])))"
    children = [subprocess.Popen([sys.executable, "-c", code, run], stdout=subprocess.PIPE) for _ in range(3)]
    tokens = {child.communicate()[0].decode().strip() for child in children}
    assert tokens == {internal_token(run)}
    assert len(tokens.pop()) >= 32
    assert [p.name for p in run.iterdir()] == ["internal.token"]
    assert (run / "internal.token").stat().st_mode & 0o777 == 0o600


def test_a_second_process_does_not_get_the_lease_and_is_told_who_has_it(tmp_path):
    child = _holder(tmp_path / "writer.lock")
    try:
        lease = Lease(tmp_path / "writer.lock")
        assert not lease.acquire()
        assert not lease.held
        with pytest.raises(UnavailableError, match=f"pid {child.pid}"):
            lease.require("the log")
    finally:
        _end(child)


def test_the_lease_is_free_once_its_holder_is_killed(tmp_path):
    child = _holder(tmp_path / "writer.lock")
    _end(child)
    with Lease(tmp_path / "writer.lock") as lease:
        assert lease.held
        assert lease.holder() == os.getpid()
    assert Lease(tmp_path / "writer.lock").acquire()


def test_a_waiting_process_takes_over(tmp_path):
    lease = Lease(tmp_path / "worker.lock")
    assert lease.acquire()
    code = _HOLD.replace("l.acquire()", "l.acquire(wait=True)")
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "worker.lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        lease.release()
        assert child.stdout.readline() == b"True\n"
        assert not lease.acquire()
    finally:
        _end(child)
