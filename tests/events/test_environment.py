"""LMDB environments: local disks only, one to a process, room kept back for deleting."""

import pytest

from mainspring.core.errors import RefusedError
from mainspring.events import environment
from mainspring.events.environment import close_environment, open_environment


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_file_system", lambda path: "nfs4")
    with pytest.raises(RefusedError, match="nfs4"):
        open_environment(tmp_path / "log", ("a",), 1 << 22)


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(monkeypatch, tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:40 / /mnt rw,relatime shared:1 - nfs4 server:/x rw\n"
        "3 2 8:2 / /mnt/my\\040disk rw - xfs /dev/sdb rw\n"
    )
    path = type(tmp_path)
    monkeypatch.setattr(environment, "Path", lambda _: path(table))
    found = [environment._file_system(path(p)) for p in ("/srv/x", "/mnt", "/mnt/a/b", "/mnt/my disk/log", "/mntx")]
    assert found == ["ext4", "nfs4", "nfs4", "xfs", "ext4"]


def test_everybody_in_a_process_shares_one_environment_and_the_last_closes_it(tmp_path):
    first = open_environment(tmp_path / "log", ("a",), 1 << 22)
    assert open_environment(tmp_path / "log", ("a",), 1 << 22) is first
    close_environment(first)
    with first.write() as txn:
        txn.put(b"k", b"v", db=first.dbs["a"])
    close_environment(first)
    again = open_environment(tmp_path / "log", ("a",), 1 << 22)
    assert again is not first
    with again.read() as txn:
        assert txn.get(b"k", db=again.dbs["a"]) == b"v"
    close_environment(again)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    env = open_environment(tmp_path / "log", ("a",), 1 << 22)
    with pytest.raises(ValueError, match="no"), env.write() as txn:  # noqa: PT012  the error is the writer's
        txn.put(b"k", b"v", db=env.dbs["a"])
        raise ValueError("no")
    with env.read() as txn:
        assert txn.get(b"k", db=env.dbs["a"]) is None
    close_environment(env)
