"""What disks, clocks and neighbours do to a log: nothing accepted is lost, nothing is believed that is broken."""

import contextlib
import subprocess
import sys
import threading

import pytest

from mainspring.catalog import Catalog
from mainspring.core import ManualClock
from mainspring.core.errors import BackPressureError, FormatError
from mainspring.events.log import Draft, Log
from mainspring.events.wake import Wake

MAP = 1 << 28
NOON_US = 1_362_139_200_000_000
YEAR_US = 365 * 86_400_000_000
READS = """
import sys
from pathlib import Path
from mainspring.core.errors import FormatError
from mainspring.events.log import Log
try:
    with Log.open(Path(sys.argv[1]), 1 << 28) as log:
        print(len(log.read(0, 10**6)))
except FormatError as error:
    print(error.code)
"""


def drafts(source, start, n, at_us=NOON_US):
    return [Draft(source, (f"f{i}", "UA", None, None, at_us)) for i in range(start, start + n)]


def ids(path):
    with Log.open(path, MAP) as log:
        return [record.id for record in log.read(0, 10**6)]


def read_in_a_process(path):
    """What a process of its own says, for it may not live through it."""
    done = subprocess.run([sys.executable, "-c", READS, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.strip()


@pytest.mark.crash
def test_a_log_file_that_was_cut_or_overwritten_is_refused_and_never_ends_its_reader(tmp_path, arrived):
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        for i in range(20):
            log.append(drafts(arrived, i * 500, 500), ManualClock(NOON_US))
    file = tmp_path / "log" / "data.mdb"
    whole = file.read_bytes()
    for cut in (100, 4_096, 8_192, len(whole) // 3, len(whole) // 2):
        file.write_bytes(whole[:cut])
        assert read_in_a_process(tmp_path / "log") == "MS-E902", cut
    file.write_bytes(b"")
    assert read_in_a_process(tmp_path / "log") == "MS-E902"
    assert file.stat().st_size == 0
    file.unlink()
    assert read_in_a_process(tmp_path / "log") == "MS-E902"
    file.write_bytes(b"garbage!" * 4_096)
    assert read_in_a_process(tmp_path / "log") == "MS-E902"
    file.write_bytes(whole)
    assert read_in_a_process(tmp_path / "log") == "10000"


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_log_that_was_emptied_is_not_begun_anew_and_the_error_says_what_to_do(tmp_path, arrived, is_gone):
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append(drafts(arrived, 0, 5), ManualClock(NOON_US))
    file = tmp_path / "log" / "data.mdb"
    file.unlink() if is_gone else file.write_bytes(b"")
    for writable in (True, False):
        with pytest.raises(FormatError, match="it is gone" if is_gone else "now it is empty") as caught:
            Log.open(tmp_path / "log", MAP, writable=writable)
        assert caught.value.code == "MS-E902"
        assert "restore it from a copy" in caught.value.hint
    assert not file.exists() or file.stat().st_size == 0


def test_a_log_whose_maker_died_before_its_first_page_is_made_by_the_next(tmp_path, arrived):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "data.mdb").write_bytes(b"")
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append(drafts(arrived, 0, 5), ManualClock(NOON_US))
    assert ids(tmp_path / "log") == [f"f{i}" for i in range(5)]


@contextlib.contextmanager
def small_disk(folder, size):
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.crash
@pytest.mark.parametrize("spare", [0, 1 << 20], ids=["really full", "nearly full"])
def test_a_full_disk_takes_nothing_loses_nothing_and_is_taken_up_again(tmp_path, arrived, spare):
    with small_disk(tmp_path / "disk", "6m") as disk:
        filler = disk / "filler"
        filler.write_bytes(b"x" * 2_000_000)
        accepted = []
        with Log.open(disk / "log", MAP, writable=True, disk_free_bytes=spare) as log:

            def append(start):
                acks = log.append(drafts(arrived, start, 500), ManualClock(NOON_US))
                accepted.extend(ack.id for ack in acks if ack.status == "accepted")

            with pytest.raises(BackPressureError, match="MS-E302"):
                all(append(start) is None for start in range(0, 10**6, 500))
            assert ids(disk / "log") == accepted
            filler.unlink()
            append(len(accepted))
        assert ids(disk / "log") == accepted
        assert read_in_a_process(disk / "log") == str(len(accepted))


def test_a_clock_that_steps_a_year_forwards_and_back_loses_and_repeats_nothing(tmp_path, arrived):
    clock, known = ManualClock(NOON_US), []
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        for turn, step in enumerate((0, YEAR_US, -YEAR_US, -YEAR_US, YEAR_US, 1, -1)):
            clock.set(clock.now_us() + step)
            acks = log.append(drafts(arrived, turn * 10, 10), clock)
            assert {ack.status for ack in acks} == {"accepted"}, turn
            repeated = log.append(drafts(arrived, turn * 10, 10), clock)
            assert {ack.status for ack in repeated} == {"duplicate"}, turn
        records = log.read(0)
        known = [record.known_at_us for record in records]
    assert [record.id for record in records] == [f"f{i}" for i in range(70)]
    assert known == sorted(set(known))


def test_two_senders_and_eight_readers_lose_no_wake_up(running, config):
    per_sender, seen, failures = 150, [0] * 8, []
    ready = threading.Barrier(10)

    def send(name):
        client = running.client(with_token=False)
        ready.wait()
        for i in range(per_sender):
            event = {"flight_id": f"{name}{i}", "carrier": "UA", "arrived_at": "2013-03-01T11:00:00Z"}
            client.post_events("arrived", [event])

    def read(place):
        with Log.open(config.log_path, config.limits.log_map_bytes) as log, Wake(config.run, f"reader_{place}") as wake:
            ready.wait()
            while seen[place] < 2 * per_sender:
                records = log.read(seen[place])
                seen[place] += len(records)
                if not records and not wake.wait(20.0):
                    failures.append(f"reader {place} was not woken after {seen[place]}")
                    return

    threads = [threading.Thread(target=send, args=(name,)) for name in "ab"]
    threads += [threading.Thread(target=read, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen == [2 * per_sender] * 8


def test_two_writers_and_eight_readers_of_a_catalog_are_never_told_that_it_is_locked(tmp_path):
    url, n, failures = f"sqlite:///{tmp_path / 'catalog.db'}", 60, []
    Catalog.open(url).close()

    def decision(offset):
        row = {"decision_id": f"d{offset}", "decided_at": NOON_US, "kind": "apply", "model": None, "actor": "t"}
        return offset, row | {"reason": "", "numbers": {}}

    def work(run):
        catalog = Catalog.open(url)
        try:
            run(catalog)
        except Exception as error:  # noqa: BLE001  shown by the test
            failures.append(repr(error))
        finally:
            catalog.close()

    def write(catalog):
        for offset in range(1, n + 1):
            catalog.project([decision(offset)])

    def read(catalog):
        while catalog.projected_offset() < n and not failures:
            pass

    threads = [threading.Thread(target=work, args=(run,)) for run in [write] * 2 + [read] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_damaged_store_says_what_to_do(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "data.mdb").write_bytes(b"x" * 10_000)
    with pytest.raises(FormatError, match=r"damaged(.|\n)*data\.mdb(.|\n)*copy"):
        Log.open(tmp_path / "log", MAP)
