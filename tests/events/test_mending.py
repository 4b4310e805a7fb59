"""Damaged files of the lake: each is refused in words, and mended with nothing lost that is anywhere."""

import os
import shutil

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.exceptions import PolarsError

from mainspring.core import ManualClock
from mainspring.core.errors import FormatError, NotFoundError, RefusedError
from mainspring.events import sums
from mainspring.events.history import History
from mainspring.events.lake import META_SCHEMA, Lake, Pin
from mainspring.events.log import Draft, Log
from mainspring.events.mark import NAME as MARK
from mainspring.events.mark import Mark, read_mark
from mainspring.events.mending import faults, rebuild, unsummed
from mainspring.events.sql import Sql
from mainspring.events.sums import NAME as SUMS
from mainspring.events.sums import read_sums

MAP = 1 << 26
HOUR_US = 3_600_000_000
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


# --- bits that flip ---------------------------------------------------------------------------------------------------


def flip(path, column="delay_min"):
    """Flip one bit inside a page of a column such that Parquet's reader does not notice, and reads other values."""
    whole, before = path.read_bytes(), pl.read_parquet(path)
    metadata = pq.read_metadata(path).row_group(0)
    chunk = next(c for i in range(metadata.num_columns) if (c := metadata.column(i)).path_in_schema == column)
    first = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
    for place in range(first + chunk.total_compressed_size - 1, first, -1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            after = pl.read_parquet(path)
        except (PolarsError, OSError):
            continue
        if after.height == before.height and not after.equals(before):
            return
    raise AssertionError("every flipped bit was noticed")


def test_a_bit_that_flips_inside_a_page_is_seen_though_its_reader_does_not(store):
    file = store.files()[1]
    flip(file)
    (fault,) = faults(store.lake, "arrived")
    assert (fault.path, fault.why, fault.rows) == (file.name, "its bytes are not those that were written", ROWS)
    assert (store.mend().lost, faults(store.lake, "arrived") if store.table.exists() else []) == (0, [])
    store.flush()
    assert faults(store.lake, "arrived") == []
    assert unsummed(store.lake, "arrived") == 0
    with store.log() as log:
        history = History(store.project, log, store.lake)
        assert history.frame("arrived", ["delay_min"])["delay_min"].to_list() == [float(i) for i in range(len(ALL))]


def means(store, until=COMMITS * ROWS):
    """The mean of a column as `sql` and as a frame says it."""
    with store.log() as log, Sql(store.project, log, store.lake) as session:
        query = f"select avg(delay_min) from arrived where _offset <= {until}"
        (batch,) = session.run(query).batches
    with store.log() as log:
        frame = History(store.project, log, store.lake).frame("arrived", ["delay_min", "_offset"])
    return batch.column(0)[0].as_py(), frame.filter(pl.col("_offset") <= until)["delay_min"].mean()


def test_who_only_reads_a_changed_file_is_told_too_and_of_which(store):
    assert means(store) == (49.5, 49.5)
    whole, file = store.files()[2].read_bytes(), store.files()[2]
    flip(file)
    words = r"MS-E903(.|\n)*its bytes are not those that were written(.|\n)*mainspring lake rebuild"
    with pytest.raises(FormatError, match=words) as caught:
        store.ids()
    assert caught.value.where == str(file)
    with store.log() as log, Sql(store.project, log, store.lake) as session:
        with pytest.raises(FormatError, match=words) as caught:
            list(session.run("select avg(delay_min) from arrived").batches)
        assert (caught.value.where, caught.value.why) == (str(file), "its bytes are not those that were written")
        (batch,) = session.run(f"select avg(delay_min) from arrived where _offset <= {2 * ROWS}").batches
        assert batch.column(0)[0].as_py() == 24.5  # of files that the query does not need nothing is said
    file.write_bytes(whole)
    assert means(store) == (49.5, 49.5)


def test_a_file_is_compared_once_in_a_process_and_again_when_it_has_changed_since(store, monkeypatch):
    compared, of_file = [], sums._of_file
    monkeypatch.setattr(sums, "_of_file", lambda path: compared.append(path) or of_file(path))
    for _ in range(3):
        assert means(store) == (49.5, 49.5)
    assert sorted(compared) == sorted(store.files())
    file = store.files()[1]
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(1, 1))
    assert means(store) == (49.5, 49.5)
    assert compared[COMMITS:] == [file]


def test_a_file_without_a_checksum_is_read_and_compared_once_it_has_one(store):
    (store.table / SUMS).unlink()
    assert means(store) == (49.5, 49.5)
    store.send(COMMITS * ROWS, 1)
    store.flush()
    assert means(store) == (49.5, 49.5)
    flip(store.files()[0])
    with pytest.raises(FormatError, match="MS-E903"):
        means(store)


def test_what_a_changed_file_says_is_lost_rather_than_believed(store):
    flip(store.files()[1])
    store.trim(COMMITS * ROWS)
    done = store.mend()
    assert (done.rows, done.lost) == ((COMMITS - 1) * ROWS - 1, ROWS)
    assert store.ids() == [*ALL[:ROWS], *ALL[2 * ROWS :]]


def test_a_changed_file_is_not_joined_with_others_into_one_that_looks_whole(store, caplog):
    flip(store.files()[1])
    with pytest.raises(FormatError, match="its bytes are not those that were written"):
        store.lake.compact("arrived")
    with pytest.raises(FormatError, match="its bytes are not those that were written"):
        store.lake.retain("arrived", NOON_US + 1)
    with store.log() as log:
        history = History(store.project, log, store.lake)
        history.compact("arrived")
        assert history.retain("arrived", NOON_US + 1) == 0
    assert len(caplog.records) == 2


def test_only_files_of_which_rows_may_go_are_compared_before_they_go(tmp_path, monkeypatch):
    lake, of_file, compared = Lake(tmp_path), sums._of_file, []
    for i in range(5):  # a file an hour
        hours = [i * HOUR_US, i * HOUR_US + HOUR_US // 2]
        meta = {"_offset": [2 * i + 1, 2 * i + 2], "_id": ["a", "b"], "_time": hours, "_known_at": hours}
        frame = pl.DataFrame(meta | {"_ingested_at": hours}).cast(META_SCHEMA)
        lake.append("s", frame, 2 * i + 2)
    files = sorted((tmp_path / "s").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    flip(files[4], "_time")
    monkeypatch.setattr(sums, "_of_file", lambda path: compared.append(path) or of_file(path))
    pins = [Pin(4), Pin(8, 3 * HOUR_US)]
    version = lake.version("s")
    assert lake.retain("s", 2 * HOUR_US, pins) == 0
    assert (compared, lake.version("s")) == ([], version)
    assert lake.retain("s", 3 * HOUR_US + 1, pins) == 2
    assert [path for path in compared if path in files] == [files[2]]
    flip(files[1], "_time")
    with pytest.raises(FormatError, match=rf"MS-E903(.|\n)*{files[1].name}"):
        lake.retain("s", 2 * HOUR_US, [Pin(3)])


def test_files_that_compaction_made_have_checksums_too_and_those_that_are_gone_have_none(store):
    store.lake.compact("arrived")
    assert unsummed(store.lake, "arrived") == 0
    (file,) = store.files()[-1:]
    for old in store.files()[:-1]:
        old.unlink()
    store.send(COMMITS * ROWS, 1)
    store.flush()
    assert read_sums(store.table).keys() == {path.name for path in store.files()}
    flip(file)
    assert [one.path for one in faults(store.lake, "arrived")] == [file.name]


def test_checksums_that_are_damaged_themselves_are_told_of_and_accuse_no_file(store, caplog):
    whole = (store.table / SUMS).read_text()
    (store.table / SUMS).write_text(whole.replace("0", "1"))
    (fault,) = faults(store.lake, "arrived")
    assert (fault.path, "cannot be said" in fault.why) == (SUMS, True)
    store.send(COMMITS * ROWS, 1)
    store.flush()
    assert "were damaged: they are made anew" in caplog.text
    assert faults(store.lake, "arrived") == []
    assert unsummed(store.lake, "arrived") == 0


def test_files_from_before_there_were_checksums_get_one_with_the_next_commit(store):
    (store.table / SUMS).unlink()
    assert (faults(store.lake, "arrived"), unsummed(store.lake, "arrived")) == ([], COMMITS)
    store.send(COMMITS * ROWS, 1)
    store.flush()
    assert unsummed(store.lake, "arrived") == 0


# --- a table whose own log was taken away -----------------------------------------------------------------------------


def unlog(store):
    shutil.rmtree(store.table / "_delta_log")


def empty_log(store):
    for path in (store.table / "_delta_log").iterdir():
        path.unlink()


def all_of_it(store):
    shutil.rmtree(store.table)


@pytest.mark.parametrize("taken", [unlog, empty_log, all_of_it])
def test_a_table_without_its_log_is_not_taken_for_a_new_one(store, taken):
    taken(store)
    for ask in (store.ids, store.flush, lambda: store.lake.frame("arrived")):
        with pytest.raises(FormatError, match=r"MS-E903(.|\n)*_delta_log(.|\n)*mainspring lake rebuild"):
            ask()
    assert store.lake.sources() == ("arrived",)
    assert faults(store.lake, "arrived")
    done = store.mend()
    assert (done.rows, done.lost) == (0, None)
    assert store.ids() == ALL
    store.flush()
    assert (store.ids(), faults(store.lake, "arrived")) == (ALL, [])


def test_what_the_log_has_no_more_is_found_in_the_files_of_a_table_without_its_log(store):
    store.lake.compact("arrived")
    store.trim(COMMITS * ROWS)
    unlog(store)
    assert store.mend().rows == COMMITS * ROWS - 1
    store.flush()
    assert store.ids() == ALL


@pytest.mark.parametrize("taken", [unlog, empty_log, all_of_it])
def test_a_writer_notices_that_the_log_was_taken_away_under_it(store, taken):
    with store.log() as log:
        history = History(store.project, log, store.lake)
        history.catch_up()
        store.send(COMMITS * ROWS, 5)
        history.catch_up()
        taken(store)
        with pytest.raises(FormatError, match=r"MS-E903(.|\n)*_delta_log"):
            history.flush()
    assert not list((store.table / "_delta_log").glob("*.json"))


def test_of_two_tables_without_a_log_the_second_is_still_known_after_the_first_was_mended(store):
    with store.log(writable=True) as log:
        weather = store.project.sources["weather"]
        log.append([Draft(weather, ("EWR", 5.0, False, NOON_US, NOON_US))], store.clock)
    store.flush()
    unlog(store)
    shutil.rmtree(store.root / "lake" / "weather" / "_delta_log")
    store.mend()
    with pytest.raises(FormatError, match=r"weather(.|\n)*_delta_log"):
        store.ids()


def test_a_writer_killed_before_its_first_commit_leaves_no_table(store):
    folder = store.root / "lake" / "weather"
    folder.mkdir()
    (folder / "part-0.parquet").write_bytes(b"")
    assert store.ids() == ALL
    assert store.lake.sources() == ("arrived",)


def test_a_mark_that_says_only_how_far_the_lake_is_complete_is_read(store):
    (store.root / "lake" / MARK).write_text("50")
    assert read_mark(store.root / "lake") == Mark(50)
    assert store.ids() == ALL
    for text in ("", "nothing", "\xff"):
        (store.root / "lake" / MARK).write_text(text, encoding="latin-1")
        assert read_mark(store.root / "lake") == Mark()


@pytest.mark.parametrize("has_sums", [True, False])
@pytest.mark.parametrize("damage", OF_DATA)
def test_a_query_says_which_file_is_damaged_and_the_command_that_mends_it(store, damage, has_sums):
    if not has_sums:
        (store.table / SUMS).unlink()
    damage(file := store.files()[2])
    with store.log() as log, Sql(store.project, log, store.lake) as session:
        with pytest.raises(FormatError, match="MS-E903") as caught:
            list(session.run("select * from arrived").batches)
        assert caught.value.where == str(file)
        assert "mainspring lake rebuild arrived" in caught.value.hint
        assert str(file) not in caught.value.why
