"""Nothing compiles in a request, and what is compiled is compiled from the sources of now."""

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from streams import every_aggregate, feature, frame, keys_frame, make_view, record

from mainspring.features import warm_up
from mainspring.features.compiled import DISPATCHERS, cache_folder, sources_of
from mainspring.features.fold import Folder
from mainspring.features.kernels import group
from mainspring.features.reader import Reader
from mainspring.features.replay import replay


def test_no_kernel_compiles_after_warm_up(store):
    warm_up()
    before = [tuple(d.signatures) for d in DISPATCHERS]
    view = make_view(*every_aggregate(50), feature("ever", "sum", "x"), feature("fresh", "last", "x", ttl=5))
    records = [record(i + 1, "ab"[i % 2], float(i), i) for i in range(600)]
    Folder([view], store).fold(records)
    Folder([view], store).fold([record(601, "a", 1.0, 3, 700), record(602, "a", 1.0, 5 * 3_600_000_000)])
    t_us = np.frombuffer(np.full(2, 600).tobytes(), np.int64)
    assert not t_us.flags.writeable
    with Reader([view], store).snapshot() as snap:
        snap.read(view, [("a",), ("b",)], t_us)
    replay(view, frame(records), keys_frame([("a",), ("b",)]), t_us, known_us=pl.Series([600, 600]))
    replay(view, frame(records), keys_frame([("a",), ("b",)]), pl.Series([600, 600]), known_offset=t_us)
    assert [tuple(d.signatures) for d in DISPATCHERS] == before
    assert all(len(d.signatures) == 1 for d in DISPATCHERS)


def test_a_type_that_was_not_declared_is_an_error_and_not_a_compilation():
    codes = np.zeros(3, np.int64)
    codes.flags.writeable = False
    with pytest.raises(TypeError):
        group(codes, 1, np.zeros(2, np.int64), np.zeros(3, np.int64))


def test_the_cache_is_named_by_the_content_of_the_sources_and_stays_where_the_user_put_it(monkeypatch, tmp_path):
    folder_of = cache_folder.__wrapped__
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    mine = folder_of("features.kernels")
    assert mine.parent == tmp_path
    assert folder_of("features.tree") != mine
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder_of("features.kernels") == tmp_path / "cache" / "mainspring" / mine.name


def test_a_change_in_whatever_a_kernel_imports_is_another_cache():
    names = {f"features.{name}" for name in ("kernels", "windows", "tree", "exact", "compiled", "status")}
    assert names <= sources_of("features.kernels")
    assert "features.kernels" not in sources_of("features.tree")
    assert "features.layout" not in sources_of("features.kernels")
    assert sources_of("models.walk") == {"models.walk", "features.compiled"}


def test_importing_the_package_alone_does_not_import_numba():
    code = "import sys, mainspring.features, mainspring.features.status; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_processes_that_start_together_compile_each_kernel_once(tmp_path):
    code = """
from mainspring.features import exact
from mainspring.features.compiled import DISPATCHERS
print(sum(sum(one.stats.cache_misses.values()) for one in DISPATCHERS), len(DISPATCHERS))
"""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    argv = [sys.executable, "-c", code]
    both = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [[int(n) for n in one.communicate()[0].split()] for one in both]
    alone = subprocess.run(
        argv, env={**env, "NUMBA_CACHE_DIR": str(tmp_path / "other")}, capture_output=True, text=True, check=True
    )
    compiled, kernels = (int(n) for n in alone.stdout.split())
    assert compiled == kernels > 1
    assert [n for _, n in counts] == [kernels, kernels]
    assert sum(n for n, _ in counts) == kernels
