"""Wake-ups."""

import os

from mainspring.events.wake import Bell, Wake


def test_who_waits_is_woken_once_for_many_commits(tmp_path):
    bell = Bell(tmp_path)
    assert bell.ring() == 0
    with Wake(tmp_path, "fold") as wake:
        assert wake.wait(0) is False
        assert [bell.ring() for _ in range(3)] == [1, 1, 1]
        assert wake.wait(5) is True
        assert wake.wait(0) is False
    assert bell.ring() == 0
    bell.close()


def test_who_comes_and_goes_while_the_folder_seems_unchanged_is_told_and_not_told(tmp_path):
    bell, folder = Bell(tmp_path), tmp_path / "wake"
    with Wake(tmp_path, "fold"):
        long_ago_ns = 10**18
        os.utime(folder, ns=(long_ago_ns, long_ago_ns))
        assert [bell.ring() for _ in range(2)] == [1, 1]
        with Wake(tmp_path, "lake") as other:  # which changes the folder
            assert bell.ring() == 2
            assert other.wait(5) is True
            with Wake(tmp_path, "audit"):  # in the same tick
                assert bell.ring() == 3
        assert bell.ring() == 1
    assert bell.ring() == 0
    bell.close()


def test_a_full_socket_holds_nobody_up(tmp_path):
    bell = Bell(tmp_path)
    with Wake(tmp_path, "fold") as wake:
        for _ in range(5_000):
            bell.ring()
        assert wake.wait(5)
    bell.close()


def test_the_socket_of_a_dead_process_is_removed(tmp_path):
    bell = Bell(tmp_path)
    wake = Wake(tmp_path, "fold")
    wake._socket.close()  # what the kernel does to a process that was killed
    assert bell.ring() == 0
    assert not wake.path.exists()
    bell.close()


def test_a_deep_folder_is_no_obstacle(tmp_path):
    run = tmp_path / ("d" * 90) / ("e" * 90)
    bell = Bell(run)
    with Wake(run, "fold") as wake:
        assert bell.ring() == 1
        assert wake.wait(5)
    bell.close()
