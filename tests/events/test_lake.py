"""The lake: exactly once, in any folder, across schemas and compaction."""

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from mainspring.core.errors import ConfigError
from mainspring.definitions.expressions import UTC_US
from mainspring.events.lake import META_SCHEMA, Lake


def frame(first, last, **columns):
    """Rows with the offsets from ``first`` to ``last``."""
    n = range(first, last + 1)
    own = {name: values if isinstance(values, list) else [values] * len(n) for name, values in columns.items()}
    times = [i * 1_000_000 - 5 for i in n]
    meta = {"_offset": list(n), "_id": [f"f{i}" for i in n], "_time": times, "_known_at": times, "_ingested_at": times}
    return pl.DataFrame({"x": [float(i) for i in n], **own, **meta}).cast({k: META_SCHEMA[k] for k in meta})


@pytest.mark.parametrize("name", ["lake", "a folder with spaces, é, #, ? and 100%"])
def test_rows_are_written_once_and_read_back_in_order(tmp_path, name):
    lake = Lake(tmp_path / name)
    assert (lake.frame("s"), lake.offset("s"), lake.version("s"), lake.sources()) == (None, 0, -1, ())
    assert lake.append("s", frame(1, 5), 5) == 5
    assert lake.append("s", frame(1, 5), 5) == 0
    assert lake.append("s", frame(3, 9), 10) == 4
    assert (lake.offset("s"), lake.version("s"), lake.sources()) == (10, 1, ("s",))
    for again in (lake, Lake(tmp_path / name)):
        assert again.frame("s")["_offset"].to_list() == list(range(1, 10))
        assert again.frame("s").equals(frame(1, 9))
        scanned = again.dataset("s").scanner(columns=["_offset"]).to_reader().read_all()
        assert sorted(scanned["_offset"].to_pylist()) == list(range(1, 10))


def test_times_before_1970_and_in_2999_survive(tmp_path):
    rows = frame(1, 2).with_columns(_time=pl.Series([-(10**15), 32_472_144_000_000_000]).cast(UTC_US))
    lake = Lake(tmp_path)
    lake.append("s", rows, 2)
    assert Lake(tmp_path).frame("s").equals(rows)


def test_a_new_column_is_null_in_older_rows(tmp_path):
    lake = Lake(tmp_path)
    lake.append("s", frame(1, 2), 2)
    lake.append("s", frame(3, 3, gate="B4"), 3)
    assert lake.frame("s")["gate"].to_list() == [None, None, "B4"]
    lake.append("s", frame(4, 4), 4)
    assert Lake(tmp_path).frame("s")["gate"].to_list() == [None, None, "B4", None]


def test_compaction_joins_files_and_changes_no_row(tmp_path):
    lake = Lake(tmp_path)
    for i in range(0, 60, 3):
        lake.append("s", frame(i + 1, i + 3), i + 3)
    assert lake.compact("s") == 20
    assert lake.offset("s") == 60
    assert lake.frame("s").equals(frame(1, 60))
    assert lake.append("s", frame(61, 61), 61) == 1
    assert Lake(tmp_path).frame("s").equals(frame(1, 61))


def test_another_reader_sees_what_is_written_after_a_refresh(tmp_path):
    lake = Lake(tmp_path)
    lake.append("s", frame(1, 2), 2)
    reader = Lake(tmp_path)
    assert reader.frame("s").height == 2
    lake.append("s", frame(3, 4), 4)
    reader.refresh("s")
    assert reader.frame("s", columns=["_offset"])["_offset"].to_list() == [1, 2, 3, 4]


def test_a_writer_that_missed_a_commit_of_another_writes_no_row_twice(tmp_path):
    one, two = Lake(tmp_path), Lake(tmp_path)
    one.append("s", frame(1, 2), 2)
    two.append("s", frame(1, 4), 4)
    assert one.append("s", frame(3, 5), 5) == 1
    assert two.append("s", frame(3, 5), 5) == 0
    assert one.append("new", frame(1, 1), 1) == 1
    assert two.append("new", frame(1, 1), 1) == 0
    assert Lake(tmp_path).frame("s").equals(frame(1, 5))


def test_a_commit_that_lost_a_race_is_made_again_for_what_is_left(tmp_path, monkeypatch):
    one, two = Lake(tmp_path), Lake(tmp_path)
    one.append("s", frame(1, 2), 2)
    two.append("s", frame(1, 2), 2)
    refresh = one.refresh

    def late(source):
        refresh(source)
        two.append("s", frame(1, 4), 4)

    monkeypatch.setattr(one, "refresh", late)
    assert one.append("s", frame(1, 6), 6) == 2
    assert Lake(tmp_path).frame("s").equals(frame(1, 6))


def test_a_folder_that_the_library_would_misread_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="percent escape"):
        Lake(tmp_path / "a%20b")


def test_a_table_is_named_by_a_name(tmp_path):
    with pytest.raises(ConfigError):
        Lake(tmp_path).append("../s", frame(1, 1), 1)


WIDE = {f"c{i}": 0.5 for i in range(50)}


def test_rows_of_a_wide_source_are_counted_by_age_and_let_go_of_by_age(tmp_path):
    lake = Lake(tmp_path)
    lake.append("s", frame(1, 50, **WIDE), 50)
    lake.append("s", frame(51, 100, **WIDE), 100)
    assert lake.count("s") == (100, 100)
    assert lake.count("s", 24_000_000) == (100, 24)
    assert lake.retain("s", 61 * 1_000_000 - 5) == 60
    assert lake.count("s") == (40, 40)
    assert lake.frame("s").equals(frame(61, 100, **WIDE))


def test_a_wide_table_of_a_release_that_noted_other_columns_is_counted_and_goes_on(tmp_path):
    rows = frame(1, 50, **WIDE)
    write_deltalake(tmp_path / "s", rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    lake = Lake(tmp_path)
    assert lake.count("s", 24_000_000) == (50, 24)
    lake.append("s", frame(51, 100, **WIDE), 100)
    lake.append("s", frame(101, 150, **WIDE), 150)
    assert lake.count("s", 74_000_000) == (150, 74)
    assert lake.frame("s").equals(frame(1, 150, **WIDE))
    assert Lake(tmp_path).version("s") == 3  # one of them says what is noted from now on


def with_dictionary(path):
    """Columns that have a dictionary in every file of a table."""
    found = [pq.ParquetFile(file).metadata.row_group(0) for file in path.glob("*.parquet")]
    columns = [
        {g.column(i).path_in_schema for i in range(g.num_columns) if g.column(i).has_dictionary_page} for g in found
    ]
    return set.intersection(*columns)


def test_only_texts_that_repeat_get_a_dictionary_also_when_files_are_joined(tmp_path):
    n = 3_000
    own = {"carrier": ["UA", "AA", None] * (n // 3), "tail": [f"N{i}" for i in range(n)], "one": [1.0] * n}
    lake = Lake(tmp_path / "lake")
    for i in range(3):
        lake.append("s", frame(i * n + 1, (i + 1) * n, **own), (i + 1) * n)
    assert with_dictionary(tmp_path / "lake" / "s") == {"carrier"}
    lake.compact("s")
    for file in set((tmp_path / "lake" / "s").glob("*.parquet")) - set(lake._files("s")):
        file.unlink()
    assert with_dictionary(tmp_path / "lake" / "s") == {"carrier"}
    assert lake.frame("s")["carrier"].to_list() == own["carrier"] * 3
    assert lake.frame("s")["tail"].to_list() == own["tail"] * 3


def test_what_is_noted_of_files_is_kept_when_a_column_of_whole_numbers_becomes_one_of_floats(tmp_path):
    lake = Lake(tmp_path)
    lake.append("s", frame(1, 10, n=1, **WIDE), 10)
    lake.append("s", frame(11, 20, n=1.5, **WIDE), 20)
    lake.append("s", frame(21, 30, n=2.5, **WIDE), 30)
    assert lake.count("s", 4_000_000) == (30, 4)
    actions = pl.DataFrame(lake._table("s").delta.get_add_actions(flatten=True))
    assert {name for name in actions.columns if name.startswith("min")} == {
        f"min.{name}" for name in META_SCHEMA if name != "_id"
    }
    assert actions["min._time"].null_count() == 0
