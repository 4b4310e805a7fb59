"""A definitions file as a whole, and what is read back of it."""

import polars as pl
import pytest

from mainspring.core.errors import DefinitionError, FormatError
from mainspring.definitions import load_project
from mainspring.definitions.codec import source_from, view_from
from mainspring.definitions.expressions import parse


def test_a_definitions_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DefinitionError, match=r"MS-D160: no definitions file") as caught:
        load_project(tmp_path / "definitions.py")
    assert caught.value.where == str(tmp_path / "definitions.py")
    assert caught.value.hint == "mainspring init DATA.csv"


def test_a_file_without_a_source_defines_nothing(tmp_path):
    path = tmp_path / "definitions.py"
    path.write_text("x = 1\n")
    with pytest.raises(DefinitionError, match=r"MS-D163: the definitions file defines no source"):
        load_project(path)


def test_an_expression_with_code_in_it_is_not_read_back():
    text = pl.lit(1.0).map_batches(abs, return_dtype=pl.Float64).meta.serialize(format="json")
    with pytest.raises(FormatError, match=r"MS-D171: an expression holds a Python function"):
        parse(text)
    harmless = pl.col("x") == "AnonymousFunction"
    assert parse(harmless.meta.serialize(format="json")).meta.eq(harmless)


def test_what_is_no_description_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"MS-D170: no description of a source"):
        source_from({"name": "x"})
    with pytest.raises(FormatError, match=r"MS-D170: no description of a feature view"):
        view_from({"name": "x", "source": {"name": "s", "fields": [], "time": "t", "id": None, "known_at": None}})


def test_a_definitions_file_that_ends_the_process_is_an_error_and_no_success(tmp_path):
    path = tmp_path / "definitions.py"
    path.write_text("import sys\n\nsys.exit(0)\n")
    with pytest.raises(DefinitionError, match=r"MS-D161.*SystemExit") as caught:
        load_project(path)
    assert caught.value.where == f"{path}:3"


CODED = """
from datetime import datetime
import functools
import mainspring as ms

def logged(fit):
    return functools.wraps(fit)(lambda train: fit(train))

class Trip(ms.Source, id="trip", time="at"):
    trip: str
    km: float
    at: datetime

class Done(ms.Source, id="trip", time="at"):
    trip: str
    minutes: float
    at: datetime

far = ms.label(Done, on="trip", value=ms.col("minutes") > 3, within="1h", otherwise=ms.exclude)

@ms.model(request=Trip, label=far, task="binary_classification", features=["km"])
@logged
def late(train):
    return None
"""


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ('features=["km"])', 'features=["km"],\n  monitor=ms.Monitor(every="2d"), cache=ms.Cache(ttl="1s"))', True),
        ('features=["km"])', 'features=["km"],  # the distance\n)', True),
        ('features=["km"])', 'features=["km"], seed=2)', False),
        ("@logged\n", "", False),
        ("return None", "return 1", False),
    ],
)
def test_a_model_is_another_version_by_what_it_is_trained_by_and_not_by_how_it_is_judged(tmp_path, old, new, is_same):
    assert old in CODED
    versions = []
    for text in (CODED, CODED.replace(old, new)):
        path = tmp_path / f"coded{len(versions)}.py"
        path.write_text(text)
        versions.append(load_project(path).models["late"].version)
    assert (versions[0] == versions[1]) is is_same
