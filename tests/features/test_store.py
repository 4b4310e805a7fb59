"""The online store: who may open it, what it refuses, and what readers see."""

import struct
import threading

import lmdb
import msgspec
import numpy as np
import pytest
from streams import every_aggregate, feature, make_view, record

from mainspring.core.collector import paused
from mainspring.core.errors import ContractError, FormatError, RefusedError, UnavailableError
from mainspring.features import unsynced
from mainspring.features.addresses import Addresses
from mainspring.features.fold import Folder
from mainspring.features.footprint import footprint
from mainspring.features.keys import encode_key
from mainspring.features.reader import Reader
from mainspring.features.state import FORMAT, REBUILD, Sizes, pack_events, unpack_events
from mainspring.features.store import OnlineStore, ViewState, head_keys, view_of
from mainspring.features.unsynced import MARK, Unsynced, boot_id

VIEW = make_view(*every_aggregate(1_000))


def read_all(reader, keys, t=50):
    with reader.snapshot() as snap:
        return snap.read(VIEW, keys, np.full(len(keys), t))[0][:, 1].tolist()


def test_a_store_that_nobody_has_folded_into_can_be_read(tmp_path):
    with OnlineStore.open(tmp_path / "state", 1 << 24) as store:
        assert store.folded_offset() == 0
        with Reader([VIEW], store).snapshot() as snap:
            values, _ = snap.read(VIEW, [("a",)], np.array([5]))
        assert np.isnan(values).all()


def test_a_reader_may_not_write(tmp_path):
    with OnlineStore.open(tmp_path / "state", 1 << 24) as store, pytest.raises(RefusedError, match="MS-F301"):
        Folder([VIEW], store)


def test_a_process_that_reads_may_not_open_it_again_to_fold_but_the_other_way_round(tmp_path):
    with OnlineStore.open(tmp_path / "state", 1 << 24), pytest.raises(RefusedError, match="MS-F301"):
        OnlineStore.open(tmp_path / "state", 1 << 24, writable=True)
    with (
        OnlineStore.open(tmp_path / "state", 1 << 24, writable=True) as store,
        OnlineStore.open(tmp_path / "state", 1 << 24) as other,
    ):
        Folder([VIEW], store).fold([record(1, "a", 1.0, 0)])
        assert other.folded_offset() == 1


def test_threads_may_open_and_close_it_as_they_like(tmp_path):
    failed, together = [], threading.Barrier(4)

    def work():
        try:
            together.wait()
            for _ in range(100):
                OnlineStore.open(tmp_path / "state", 1 << 24, writable=True).close()
        except Exception as error:  # noqa: BLE001  raised below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(together.parties)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed


def test_the_file_is_the_owners_alone(tmp_path):
    with OnlineStore.open(tmp_path / "state", 1 << 24):
        assert (tmp_path / "state" / "data.mdb").stat().st_mode & 0o077 == 0


def test_an_unknown_format_is_refused_wherever_it_stands(tmp_path):
    part = bytearray(pack_events(np.zeros((4, 2), np.int64)))
    part[0] = FORMAT + 1
    with pytest.raises(FormatError, match="MS-F901"):
        unpack_events(bytes(part))
    with OnlineStore.open(tmp_path / "state", 1 << 24, writable=True) as store:
        folder = Folder([VIEW], store)
        folder.fold([record(1, "a", 1.0, 0)])
        with store.env.begin(write=True, db=store.heads) as txn, txn.cursor() as cursor:
            assert cursor.first()
            cursor.put(cursor.key(), bytes([FORMAT + 1]) + cursor.value()[1:])
        with pytest.raises(FormatError, match="MS-F901"):
            read_all(Reader([VIEW], store), [("a",)])
        with pytest.raises(FormatError, match="MS-F901"):
            folder.fold([record(2, "a", 1.0, 0)])
        with store.env.begin(write=True) as txn:
            txn.put(b"root", msgspec.msgpack.encode({"format": FORMAT + 1}))
    with pytest.raises(FormatError, match=f"MS-F901(?s:.*){REBUILD}"):
        OnlineStore.open(tmp_path / "state", 1 << 24)


def test_a_missing_part_is_an_error_that_names_the_way_out(store):
    Folder([VIEW], store).fold([record(i + 1, "a", 1.0, i) for i in range(300)])
    with store.env.begin(write=True) as txn:
        txn.drop(store.parts, delete=False)
    with pytest.raises(UnavailableError, match=f"MS-F303(?s:.*){REBUILD}"):
        read_all(Reader([VIEW], store), [("a",)])


def test_a_snapshot_stays_at_its_offset_while_the_fold_goes_on(tmp_path):
    with OnlineStore.open(tmp_path / "state", 1 << 24, writable=True) as store:
        folder, reader = Folder([VIEW], store), Reader([VIEW], store)
        folder.fold([record(1, "a", 1.0, 0)])
        folded = threading.Thread(target=lambda: folder.fold([record(2, "a", 1.0, 1), record(3, "b", 1.0, 1)]))
        with reader.snapshot() as snap:
            folded.start()
            folded.join()
            values, _ = snap.read(VIEW, [("a",), ("b",)], np.array([50, 50]))
            assert snap.offset == 1
        assert values[:, 0].tolist() == [1.0, 0.0]
        assert read_all(reader, [("a",), ("b",)]) == [2.0, 1.0]


def test_a_cache_that_holds_little_answers_the_same(store):
    folder, little, plenty = Folder([VIEW], store), Reader([VIEW], store, cache_bytes=1), Reader([VIEW], store)
    records = [record(i + 1, "abc"[i % 3], float(i), i) for i in range(2_000)]
    keys = [("a",), ("b",), ("c",), ("a",)]
    for a in range(0, 2_000, 90):
        folder.fold(records[a : a + 90])
        assert read_all(little, keys, a + 50) == read_all(plenty, keys, a + 50)


def test_waiting_ends_when_the_offset_is_folded_or_time_is_up(store):
    folder = Folder([VIEW], store)
    assert not store.wait_for(1, timeout_s=0.0)
    folding = threading.Thread(target=lambda: folder.fold([record(1, "a", 1.0, 0)]))
    folding.start()
    assert store.wait_for(1, timeout_s=30.0)
    folding.join()


def test_different_entities_have_different_keys():
    entities = [
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("",),
        ("", ""),
        (1,),
        ("1",),
        (True,),
        (-1,),
        ("s" * 500,),
        ("s" * 501,),
    ]
    keys = [encode_key(e) for e in entities]
    assert len(set(keys)) == len(entities)
    assert all(key is not None and len(key) <= 400 for key in keys)
    assert struct.unpack(">I", encode_key(("é",))[1:5]) == (2,)


@pytest.mark.parametrize(
    "columns",
    [[["a", "", "é", "a" * 500]], [["a", None, "b"]], [[1, 2, None]], [[True, 1, "1"]], [["a", "b"], [1, None]], [[]]],
)
def test_the_entities_of_columns_are_those_of_their_rows(columns):
    state = ViewState(7, 0, shelf=b"abcd")
    addresses = Addresses(state)
    for _ in range(2):  # worked out, then remembered
        assert addresses.of(columns) == head_keys(state, [encode_key(row) for row in zip(*columns, strict=True)])


def test_entities_are_remembered_apart_by_their_types_and_not_without_end(monkeypatch):
    monkeypatch.setattr("mainspring.features.addresses.MOST", 3)
    addresses = Addresses(ViewState(7, 0, shelf=b"abcd"))
    columns = [[0, 1, 2, 3, 4], [False, True], ["0", "1"], [None, None], [1, 0, None, 5]]
    first = [addresses.of([column]) for column in columns]
    assert [addresses.of([column]) for column in columns] == first
    named = [place for places, column in zip(first, columns, strict=True) for place in places]
    nobody = b"abcd"
    assert len(set(named)) == 5 + 2 + 2 + 1 + 1  # 1 and 0 again, and 5; all without a name are nobody
    assert first[3] == [nobody, nobody]
    assert first[4][2] == nobody
    with pytest.raises(ContractError, match="MS-F101"):
        addresses.of([[1.0, 0.0]])


def test_an_older_releases_state_is_refused_to_readers_and_discarded_by_the_process_that_folds(tmp_path):
    path = tmp_path / "state"
    with OnlineStore.open(path, 1 << 24, writable=True) as store:
        Folder([VIEW], store).fold([record(i + 1, "a", 1.0, i) for i in range(300)])
        with store.env.begin(write=True) as txn:
            root = msgspec.msgpack.decode(txn.get(b"root"))
            txn.put(b"root", msgspec.msgpack.encode(root | {"format": FORMAT - 1}))
            txn.put(b"a", b"block", db=store.env.open_db(b"blocks", txn=txn))
    with pytest.raises(FormatError, match="MS-F901"):
        OnlineStore.open(path, 1 << 24)
    with OnlineStore.open(path, 1 << 24, writable=True) as store:
        assert store.folded_offset() == 0
        with store.env.begin() as txn:
            assert txn.stat(store.heads)["entries"] == txn.stat(store.parts)["entries"] == 0
            assert txn.get(b"blocks") is None
        Folder([VIEW], store).fold([record(1, "a", 1.0, 0)])
        assert read_all(Reader([VIEW], store), [("a",)]) == [1.0]


def test_what_views_know_of_one_entity_lies_side_by_side_and_one_view_goes_without_the_other(store):
    one, two = (make_view(feature("n", "count", "x"), name=name) for name in ("one", "two"))
    folder = Folder([one, two], store)
    folder.fold([record(i + 1, f"key{i % 300}", 1.0, i) for i in range(900)])
    ids = [store.root().views[f"{view.name}@{view.version}"].id for view in (one, two)]
    with store.env.begin() as txn:
        assert [view_of(place) for place in txn.cursor(store.heads).iternext(values=False)] == ids * 300
    size = footprint(store, store.root().views[f"two@{two.version}"])
    assert size.keys == 300
    assert size == footprint(store, store.root().views[f"one@{one.version}"])
    assert footprint(store, store.root().views[f"two@{two.version}"], most_keys=7).keys == 7
    folder.drop(f"one@{one.version}")
    with store.env.begin() as txn:
        assert {view_of(place) for place in txn.cursor(store.heads).iternext(values=False)} == {ids[1]}
    assert footprint(store, store.root().views[f"two@{two.version}"]) == size


def test_a_read_gives_its_place_back_at_once_and_not_when_the_collector_comes(store):
    """LMDB has a place for each reader, and a transaction keeps its own until nothing refers to it."""
    Folder([VIEW], store, Sizes(block=8, fan=4, tail=8, keep=4)).fold([record(i + 1, "a", 1.0, i) for i in range(300)])
    with paused():
        for _ in range(50):
            assert read_all(Reader([VIEW], store), [("a",)], 400) == [300.0]
        assert store.env.info()["num_readers"] < 5


# --- what the disk may not have ---------------------------------------------------------------------------------------


def folded(folder):
    with OnlineStore.open(folder, 1 << 24) as store:
        return store.folded_offset()


def mark_of(folder):
    return (folder / MARK).read_text()


@pytest.fixture
def written(tmp_path):
    """A store that one event has been folded into, and that was closed."""
    with OnlineStore.open(tmp_path / "state", 1 << 24, writable=True) as store:
        assert mark_of(tmp_path / "state") == boot_id() != ""
        Folder([VIEW], store).fold([record(1, "a", 1.0, 0)])
    assert mark_of(tmp_path / "state") == ""
    return tmp_path / "state"


def test_a_store_that_was_closed_is_believed_on_another_boot(written, monkeypatch):
    monkeypatch.setattr(unsynced, "boot_id", lambda: "another")
    assert folded(written) == 1
    with OnlineStore.open(written, 1 << 24, writable=True) as store:
        assert (mark_of(written), store.folded_offset()) == ("another", 1)


def test_a_store_whose_writer_died_is_believed_on_the_same_boot_only(written, monkeypatch):
    (written / MARK).write_text(boot_id())
    assert folded(written) == 1
    with OnlineStore.open(written, 1 << 24, writable=True) as store:
        assert store.folded_offset() == 1
    (written / MARK).write_text("the boot before")
    with pytest.raises(UnavailableError, match=r"MS-F308(?s:.*)mainspring up"):
        OnlineStore.open(written, 1 << 24)
    with OnlineStore.open(written, 1 << 24, writable=True) as store:
        assert (store.folded_offset(), mark_of(written)) == (0, boot_id())
        Folder([VIEW], store).fold([record(1, "b", 2.0, 0)])
    assert folded(written) == 1


def test_where_boots_have_no_names_commits_are_synced_and_a_mark_is_not_believed(written, monkeypatch):
    monkeypatch.setattr(unsynced, "boot_id", lambda: "")
    with OnlineStore.open(written, 1 << 24, writable=True) as store:
        assert (store.folded_offset(), store.env.flags()["sync"], mark_of(written)) == (1, True, "")
    (written / MARK).write_text("a boot that had a name")
    with OnlineStore.open(written, 1 << 24, writable=True) as store:
        assert store.folded_offset() == 0


def test_the_last_of_several_writers_takes_the_mark_off(tmp_path):
    synced = []
    first, second = (Unsynced(tmp_path, lambda: pytest.fail("nothing is stale")) for _ in range(2))
    first.release(lambda: synced.append("first"))
    assert (synced, mark_of(tmp_path)) == ([], boot_id())
    second.release(lambda: synced.append("second"))
    assert (synced, mark_of(tmp_path)) == (["second"], "")


def test_a_store_that_cannot_be_synced_stays_marked(tmp_path):
    mark = Unsynced(tmp_path, lambda: None)
    with pytest.raises(OSError, match="the disk is gone"):
        mark.release(lambda: (_ for _ in ()).throw(OSError("the disk is gone")))
    assert mark_of(tmp_path) == boot_id()


def test_a_store_that_cannot_be_opened_leaves_the_mark_as_it_was(written):
    (written / MARK).write_text(boot_id())
    (written / "data.mdb").write_bytes(b"no store at all" * 1_000)
    with pytest.raises(lmdb.InvalidError):
        OnlineStore.open(written, 1 << 24, writable=True)
    assert mark_of(written) == boot_id()
