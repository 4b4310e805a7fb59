"""What a definitions file becomes: values that compare, hash and come back from their descriptions."""

import dataclasses
import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import polars as pl
import pytest

import mainspring as ms
from mainspring.definitions import load_project
from mainspring.definitions.codec import source_from, view_from
from mainspring.definitions.expressions import expression
from mainspring.definitions.values import Constraint, Field, SourceDef

FILE = """
from datetime import datetime
from typing import Annotated
import mainspring as ms
from mainspring import col

class Asked(ms.Source, id="ride", time="asked_at"):
    '''A ride, asked for.'''
    ride: str
    city: Annotated[str, ms.one_of("Graz", "Linz")]
    km: Annotated[float, ms.between(0, 500)]
    seats: int = 1
    note: str | None = None
    asked_at: datetime

class Done(ms.Source, id="ride", time="done_at", known_at="heard_at", dedup="1d", future="1h"):
    ride: str
    city: str
    minutes: float | None
    done_at: datetime
    heard_at: datetime

@ms.feature_view(Done, entity="city")
class City:
    minutes_1h = ms.mean("minutes", window="1h")
    slow_1d = ms.count(where=col("minutes") > 30, window="1d")
    latest = ms.last("minutes", ttl="3h")
    since = ms.age()

late = ms.label(Done, on="ride", value=col("minutes") > 30, within="1d", late="2h", otherwise=False)

@ms.model(request=Asked, label=late, task="binary_classification",
          features=[City, "km", "seats", col("asked_at").dt.hour().alias("hour")],
          gates=[ms.gate("roc_auc", at_least=0.7)],
          rollout=ms.Rollout(shadow="6h", ramp=[0.1, 0.5], step="2h", prove=[ms.guard("brier", margin=0.01)]),
          monitor=ms.Monitor(every="6h", retrain=ms.when_worse("log_loss", by=0.1) | ms.every("7d")))
def is_late(train: ms.Dataset):
    '''Late or not.'''
    return None
"""


@pytest.fixture
def written(tmp_path):
    def write(*changes):
        text = textwrap.dedent(FILE)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"d{len(list(tmp_path.glob('*.py')))}.py"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def project(written):
    return load_project(written())


def test_a_file_becomes_sources_views_and_models_by_name(project):
    assert list(project.sources) == ["asked", "done"]
    assert list(project.views) == ["city"]
    assert list(project.models) == ["is_late"]
    model = project.models["is_late"]
    assert [f.name for f in model.features] == [
        "city__minutes_1h",
        "city__slow_1d",
        "city__latest",
        "city__since",
        "km",
        "seats",
        "hour",
    ]
    assert [f.kind for f in model.features] == ["float", "int", "float", "float", "float", "int", "int"]
    assert model.views == (project.views["city"],)
    assert model.label.horizon_us == 26 * 3_600_000_000
    assert model.doc == "Late or not."
    assert model.place.line == 32
    assert model.monitor.retrain.every_us == 7 * 86_400_000_000
    assert model.monitor.retrain.worse == ("log_loss", 0.1, "baseline")
    assert model.rollout.ramp == (0.1, 0.5)


def test_a_source_knows_its_roles_defaults_and_constraints(project):
    asked, done = project.sources["asked"], project.sources["done"]
    assert asked.doc == "A ride, asked for."
    assert asked.columns["city"].constraints == (Constraint("one_of", ("Graz", "Linz")),)
    assert (asked.columns["seats"].default, asked.columns["seats"].has_default) == (1, True)
    assert (asked.columns["note"].nullable, asked.columns["note"].default) == (True, None)
    assert (done.known_at, done.dedup_us, done.future_us) == ("heard_at", 86_400_000_000, 3_600_000_000)
    assert done.schema["done_at"] == pl.Datetime("us", "UTC")


def test_a_view_looks_back_as_far_as_its_longest_window(written):
    bounded = load_project(written(("    since = ms.age()\n", "")))
    assert bounded.views["city"].retention_us == 86_400_000_000
    assert load_project(written()).views["city"].retention_us is None


def test_versions_are_the_same_in_every_process(written, project):
    path = written()
    code = (
        "import json, sys; from pathlib import Path; from mainspring.definitions import load_project;"
        "print(json.dumps(load_project(Path(sys.argv[1])).describe()))"
    )
    for seed in ("0", "1"):
        out = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        assert json.loads(out) == project.describe()


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('window="1h"', 'window="2h"', {"city", "is_late"}),
        ("> 30, window", "> 31, window", {"city", "is_late"}),
        ("ms.between(0, 500)", "ms.between(0, 501)", {"asked"}),
        ("    minutes: float | None", "    minutes: float | None\n    tip: float | None", {"done"}),
        (
            "    minutes: float | None",
            '    minutes: Annotated[float | None, ms.alias("t")]',
            {"done", "city", "is_late"},
        ),
        ("    minutes: float | None", '    minutes: Annotated[float | None, ms.describe("x", unit="min")]', set()),
        ("    return None", "    return 1", {"is_late"}),
        ('within="1d"', 'within="2d"', {"is_late"}),
        ('"km", "seats"', '"seats", "km"', {"is_late"}),
        ("A ride, asked for.", "Another text.", set()),
        ("at_least=0.7", "at_least=0.8", set()),
    ],
)
def test_a_version_changes_with_what_it_is_the_content_of(written, project, old, new, changed):
    other = load_project(written((old, new)))
    before = {**project.sources, **project.views, **project.models}
    after = {**other.sources, **other.views, **other.models}
    assert {name for name in before if before[name].version != after[name].version} == changed


def test_sources_and_views_come_back_from_their_descriptions(project):
    for source in project.sources.values():
        again = source_from(json.loads(json.dumps(source.describe())))
        assert again.version == source.version
        assert again.fields == source.fields
    view = project.views["city"]
    again = view_from(json.loads(json.dumps(view.describe())))
    assert again.version == view.version
    assert again.features == view.features
    assert again.column_names == view.column_names


def test_a_default_that_is_a_moment_comes_back_from_its_description():
    opened = Field("opened_at", "datetime", default=datetime(2013, 1, 2, tzinfo=UTC), has_default=True)
    source = SourceDef("s", (Field("at", "datetime"), opened), "at")
    assert source_from(json.loads(json.dumps(source.describe()))) == source
    other = SourceDef("s", (Field("at", "datetime"), dataclasses.replace(opened, default=datetime(2014, 1, 2))), "at")  # noqa: DTZ001
    assert other.version != source.version


def test_values_are_frozen(project):
    with pytest.raises(dataclasses.FrozenInstanceError):
        project.sources["asked"].name = "other"


def test_an_expression_comes_back_and_computes_the_same():
    frozen = expression(pl.col("x") * 2 + 1, {"x": pl.Float64}, of="source s", where="here", name="y")
    assert (frozen.name, frozen.kind, frozen.inputs) == ("y", "float", ("x",))
    assert pl.DataFrame({"x": [1.0, None]}).select(frozen.expr).to_dict(as_series=False) == {"y": [3.0, None]}


def test_an_instant_as_a_bound_is_kept_in_microseconds():
    bound = ms.definitions.between(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
    assert bound.args == (1_000_000, 86_400_000_000)


def test_how_long_ids_are_remembered_is_no_part_of_the_contract():
    one = SourceDef("s", (Field("at", "datetime"),), "at")
    assert dataclasses.replace(one, dedup_us=1, future_us=1).version == one.version


def test_definitions_import_neither_storage_nor_models():
    code = "import sys, mainspring.definitions; print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    heavy = ["lmdb", "sqlalchemy", "deltalake", "numba", "mlflow", "lightgbm", "sklearn", "pandas", "onnxruntime"]
    out = subprocess.run([sys.executable, "-c", code, *heavy], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "[]"
