"""Damaged files of the lake: each is refused in words, and mended with nothing lost that is anywhere."""

import pytest

from mainspring.core import ManualClock
from mainspring.core.errors import FormatError, NotFoundError, RefusedError
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.mending import faults, rebuild
from mainspring.events.sql import Sql

MAP = 1 << 26
NOON_US = 1_362_139_200_000_000
COMMITS, ROWS = 4, 25


class Store:
    """A log and a lake: four commits of 25 rows each, of which the log has everything."""

    def __init__(self, root, project):
        self.root, self.project = root, project
        self.arrived = project.sources["arrived"]
        self.clock = ManualClock(NOON_US)
        for i in range(COMMITS):
            self.send(i * ROWS, ROWS)
            self.flush()

    @property
    def table(self):
        return self.root / "lake" / "arrived"

    @property
    def lake(self):
        return Lake(self.root / "lake")

    def log(self, **more):
        return Log.open(self.root / "log", MAP, **more)

    def send(self, start, n):
        with self.log(writable=True) as log:
            rows = [Draft(self.arrived, (f"f{i}", "UA", float(i), i, NOON_US)) for i in range(start, start + n)]
            log.append(rows, self.clock)

    def flush(self):
        with self.log() as log:
            history = History(self.project, log, self.lake)
            history.catch_up()
            history.flush()

    def trim(self, before):
        with self.log(writable=True) as log:
            log.trim(before)

    def ids(self):
        with self.log() as log:
            history = History(self.project, log, self.lake)
            history.catch_up()
            return history.frame("arrived", ["flight_id", "_offset"])["flight_id"].to_list()

    def files(self):
        return sorted(self.table.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)

    def commit(self, number):
        return self.table / "_delta_log" / f"{number:020d}.json"

    def mend(self):
        with self.log() as log:
            return rebuild(self.lake, "arrived", log, NOON_US)


@pytest.fixture
def store(tmp_path, project):
    return Store(tmp_path, project)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def garble(path):
    path.write_bytes(b"PAR1" + bytes(400) + path.read_bytes()[404:])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


ALL = [f"f{i}" for i in range(COMMITS * ROWS)]
OF_DATA = [cut, garble, empty, remove]


@pytest.mark.parametrize("damage", OF_DATA)
def test_a_damaged_file_is_an_error_that_says_where_and_what_mends_it(store, damage):
    file = store.files()[1]
    damage(file)
    with pytest.raises(FormatError, match=r"MS-E903(.|\n)*\.parquet(.|\n)*mainspring lake rebuild"):
        store.ids()
    with (
        store.log() as log,
        Sql(store.project, log, store.lake) as session,
        pytest.raises(FormatError, match=r"MS-E903(.|\n)*mainspring lake check"),
    ):
        list(session.run("select sum(seats), count(flight_id) from arrived").batches)
    (fault,) = faults(store.lake, "arrived")
    assert (fault.path, fault.rows) == (file.name, ROWS)


@pytest.mark.parametrize("damage", OF_DATA)
def test_a_damaged_file_of_which_the_log_has_the_rows_costs_nothing(store, damage):
    damage(store.files()[1])
    done = store.mend()
    assert (done.rows, done.from_log, done.lost) == (0, 1, 0)
    assert store.ids() == ALL
    store.flush()
    assert store.ids() == ALL
    assert faults(store.lake, "arrived") == []


@pytest.mark.parametrize(
    ("damage", "number"),  # a table whose last commit is not there is the table before it, whole
    [(damage, n) for damage in (cut, empty, remove) for n in range(COMMITS) if (damage, n) != (remove, COMMITS - 1)],
)
def test_a_torn_or_missing_commit_is_refused_and_mended(store, damage, number):
    damage(store.commit(number))
    with pytest.raises(FormatError, match=r"MS-E903(.|\n)*arrived"):
        store.ids()
    assert any(one.path.startswith("_delta_log/") for one in faults(store.lake, "arrived"))
    store.mend()
    assert store.ids() == ALL
    store.flush()
    assert store.ids() == ALL


def test_rows_that_have_left_the_log_are_taken_from_the_files_that_can_be_read(store):
    store.trim(3 * ROWS + 1)
    cut(store.files()[1])
    done = store.mend()
    assert (done.rows, done.from_log, done.lost) == (2 * ROWS, 3 * ROWS + 1, ROWS)
    left = [f"f{i}" for i in range(COMMITS * ROWS) if not ROWS <= i < 2 * ROWS]
    assert store.ids() == left
    store.flush()
    store.send(COMMITS * ROWS, 5)
    store.flush()
    assert store.ids() == [*left, *(f"f{i}" for i in range(100, 105))]


def test_rows_of_a_torn_commit_that_have_left_the_log_are_found_in_their_file(store):
    store.trim(COMMITS * ROWS + 1)
    cut(store.commit(2))
    done = store.mend()
    assert done.lost is None
    assert store.ids() == ALL


def test_a_damaged_file_that_compaction_made_is_made_again_of_what_it_was_made_of(store):
    before = set(store.files())
    store.lake.compact("arrived")
    store.trim(COMMITS * ROWS + 1)
    (joined,) = set(store.files()) - before
    garble(joined)
    done = store.mend()
    assert done.lost == 0
    assert store.ids() == ALL


def test_what_was_deleted_does_not_come_back_from_older_files(store):
    store.lake.compact("arrived")
    gone = NOON_US + 1
    assert store.lake.retain("arrived", gone) == COMMITS * ROWS
    store.send(200, 3)
    store.flush()
    store.trim(COMMITS * ROWS + 4)
    newest = store.files()[-1]
    cut(newest)
    done = store.mend()
    assert (done.rows, store.ids()) == (0, ["f202"])  # the newest record never leaves the log


def test_the_damaged_table_is_kept_and_is_no_table(store):
    cut(store.files()[0])
    done = store.mend()
    assert done.aside.endswith(f"_damaged/arrived-{NOON_US}")
    store.flush()
    assert store.lake.sources() == ("arrived",)


def test_compaction_tells_of_a_damaged_table_and_leaves_it(store, caplog):
    cut(store.files()[0])
    with store.log() as log:
        History(store.project, log, store.lake).compact("arrived")
    assert "MS-E903" in caplog.text


def test_only_a_damaged_table_is_made_anew(store):
    with pytest.raises(RefusedError, match="MS-E314"):
        store.mend()
    with pytest.raises(NotFoundError, match=r"MS-E313(.|\n)*did you mean 'arrived'"):
        faults(store.lake, "arrivd")
