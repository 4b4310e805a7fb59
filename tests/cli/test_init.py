"""``mainspring init``: from a file that somebody has to a project whose own test passes."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mainspring.cli import scaffold
from mainspring.definitions import load_project
from mainspring.events import Contract
from mainspring.events.columns import Pick, picked_rows

START = datetime(2024, 1, 1, tzinfo=UTC)


def table(n=40, /, **columns):
    """A table of n rows; each column a function of the row's number."""
    return pl.DataFrame({name: [make(i) for i in range(n)] for name, make in columns.items()})


def churn():
    return table(
        **{
            "Customer ID": lambda i: f"c{i}",
            "Signed Up": lambda i: (START + timedelta(hours=i)).isoformat(),
            "Spend (EUR)": lambda i: None if i % 7 == 0 else i * 1.5,
            "class": lambda i: "ab"[i % 2],
            "Churned": lambda i: "yes" if i % 3 else "no",
        }
    )


@pytest.fixture
def made(cli, tmp_path, monkeypatch):
    """Writes a table as a file and makes a project of it."""
    monkeypatch.chdir(tmp_path)

    def make(frame, *argv, name="data.csv"):
        if name.endswith(".csv"):
            frame.write_csv(tmp_path / name)
        else:
            frame.write_parquet(tmp_path / name)
        return cli("init", name, *argv, "--json")

    return make


def test_a_csv_becomes_four_files_that_say_what_it_is(made, tmp_path):
    result = made(churn(), "--target", "churned", name="churn.csv")
    assert result.code == 0
    assert sorted(p.name for p in (tmp_path / "churn").iterdir()) == [
        "README.md",
        "definitions.py",
        "mainspring.toml",
        "test_definitions.py",
    ]
    answer = result.json
    assert (answer["target"], answer["time"], answer["id"]) == ("churned", "signed_up", "customer_id")
    project = load_project(tmp_path / "churn" / "definitions.py")
    source = project.sources["churn"]
    assert {f.name: (f.kind, f.nullable) for f in source.fields} == {
        "customer_id": ("str", False),
        "spend_eur": ("float", True),
        "class_": ("str", False),
        "signed_up": ("datetime", False),
    }
    model = project.models["churn_churned"]
    assert model.task == "binary_classification"
    assert [f.name for f in model.features] == ["spend_eur", "class_", "weekday"]
    assert model.label.on == "customer_id"
    said = (tmp_path / "churn" / "definitions.py").read_text()
    assert "# A column that is only known afterwards must not be a feature: move it to ChurnOutcome.\n" in said
    assert "    pip install pytest\n    python -m pytest\n" in (tmp_path / "churn" / "README.md").read_text()


def test_the_test_of_a_new_project_passes_and_fails_when_the_file_changes(made, tmp_path):
    made(churn(), "--target", "churned", name="churn.csv")

    def run():
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "churn")]
        return subprocess.run(argv, check=False, capture_output=True, text=True)

    assert "2 passed" in run().stdout
    churn().with_columns(pl.lit("many").alias("Spend (EUR)")).write_csv(tmp_path / "churn.csv")
    assert "1 failed, 1 passed" in run().stdout


@pytest.mark.parametrize(
    ("target", "value", "task", "positive"),
    [
        (lambda i: i % 2 == 0, True, "binary_classification", 0.5),
        (lambda i: i % 4 == 0, True, "binary_classification", 0.25),
        (lambda i: 1 if i % 4 == 0 else 0, True, "binary_classification", 0.25),
        (lambda i: "bad" if i % 4 == 0 else "good", True, "binary_classification", 0.25),
        (lambda i: "A" if i % 4 else "B", True, "binary_classification", 0.25),
        (lambda i: i * 1.25, None, "regression", None),
        (lambda i: i % 5, None, "regression", None),
    ],
)
def test_a_target_of_two_values_is_a_class_and_another_number_a_quantity(made, tmp_path, target, value, task, positive):
    made(table(x=lambda i: i % 9, t=target), "--target", "t")
    model = load_project(tmp_path / "data" / "definitions.py").models["data_t"]
    assert model.task == task
    rows = [r.fields for r in picked_rows(tmp_path / "data.csv", model.label.source, PICK)]
    values = pl.DataFrame({"t": [r["t"] for r in rows]}).select(model.label.value.expr).to_series()
    if positive is not None:
        assert values.mean() == positive


PICK = Pick(id="row_id", time="recorded_at", step_us=86_400_000_000)


def test_without_a_time_and_an_id_the_place_of_a_row_stands_for_them(made, tmp_path):
    answer = made(table(size=lambda i: i, price=lambda i: i * 3.0), "--target", "price").json
    assert (answer["time"], answer["id"]) == (None, None)
    assert answer["next"][2].endswith("--pick --row-id row_id --row-time recorded_at --row-every 1d")
    source = load_project(tmp_path / "data" / "definitions.py").sources["data"]
    contract = Contract(source)
    rows = [contract.check(r.fields) for r in picked_rows(tmp_path / "data.csv", source, PICK)]
    assert len({row[source.places["row_id"]] for row in rows}) == 40
    assert contract.time_of(rows[1]) - contract.time_of(rows[0]) == 86_400_000_000


def test_parquet_types_are_taken_as_they_are(made, tmp_path):
    frame = churn().with_columns(pl.col("Signed Up").str.to_datetime(time_zone="UTC"), day=pl.lit(START.date()))
    result = made(frame, "--target", "Churned", "--id", "Customer ID", name="churn.parquet")
    assert result.json["time"] == "signed_up"
    fields = load_project(tmp_path / "churn" / "definitions.py").sources["churn"].columns
    assert fields["day"].kind == "datetime"


def test_names_that_are_taken_or_no_names_are_made_names(made, tmp_path):
    frame = table(
        **{
            "Sale Price": lambda i: i,
            "sale_price": lambda i: i + 0.5,
            "2nd": lambda i: i % 3,
            "row_id": lambda i: i % 3,
            "ß": lambda i: i % 2,
            "y": lambda i: i % 2 == 0,
        }
    )
    assert made(frame, "--target", "y", name="2024 Sales.csv").code == 0
    source = load_project(tmp_path / "c_2024_sales" / "definitions.py").sources["c_2024_sales"]
    assert list(source.columns) == ["row_id_", "sale_price", "sale_price_2", "c_2nd", "row_id", "column", "recorded_at"]


def test_what_stands_in_a_file_is_never_run(made, tmp_path):
    frame = table(**{'x"""; import os #': lambda i: i, "y": lambda i: ('yes"); boom(', 'no"""')[i % 2]})
    result = made(frame, "--target", "y", name='a""" boom.csv')
    assert result.code == 0
    folder = next(p for p in tmp_path.iterdir() if p.is_dir())
    model = next(iter(load_project(folder / "definitions.py").models.values()))
    values = pl.DataFrame({"y": ['yes"); boom(', 'no"""']}).select(model.label.value.expr).to_series().to_list()
    assert sorted(values) == [False, True]
    compile((folder / "test_definitions.py").read_text(), "test", "exec")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([], 3, "MS-C075"),
        (["--target", "prise"], 6, "did you mean 'price'?"),
        (["--target", "town"], 4, "town cannot be predicted"),
        (["--target", "same"], 4, "same cannot be predicted"),
        (["--target", "at"], 4, "at cannot be predicted"),
        (["--target", "price", "--time", "town"], 4, "town is no time of a row"),
        (["--target", "price", "--id", "town"], 4, "37 rows repeat an id"),
        (["--target", "price", "--id", "price"], 4, "price is no id of a row"),
        (["--target", "n", "--id", "n"], 4, "different columns"),
        (["--target", "price", "--name", "My Prices"], 3, "is not a project name"),
        (["--target", "price", "--within", "soon"], 3, "is not a span"),
    ],
)
def test_what_no_project_can_be_made_of_is_said(made, tmp_path, argv, code, words):
    frame = table(
        town=lambda i: "abc"[i % 3],
        same=lambda i: 1,
        n=lambda i: i,
        at=lambda i: (START + timedelta(days=i)).isoformat(),
        price=lambda i: i * 2.5,
    )
    result = made(frame, *argv)
    assert result.code == code
    assert words in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("gone.csv", None, 6, "MS-C071"),
        ("empty.csv", b"", 4, "MS-C072"),
        ("header.csv", b"a,b\n", 4, "the file has no rows"),
        ("rows.txt", b"a\n1\n", 4, "neither CSV, JSON Lines nor Parquet"),
        ("no.parquet", b"PAR1 no", 4, "MS-C072"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(cli, tmp_path, name, content, code, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = cli("init", tmp_path / name, "--target", "a")
    assert result.code == code
    assert words in result.err


def test_no_file_is_ever_overwritten(made, tmp_path):
    made(churn(), "--target", "churned", name="churn.csv")
    mine = tmp_path / "churn" / "definitions.py"
    mine.write_text("# mine\n")
    result = made(churn(), "--target", "churned", name="churn.csv")
    assert (result.code, result.error["code"]) == (5, "MS-C074")
    assert mine.read_text() == "# mine\n"


def test_at_a_terminal_it_asks(cli, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.chdir(tmp_path)
    churn().write_csv(tmp_path / "churn.csv")
    monkeypatch.setattr(sys, "stdin", Terminal("Churned\n-\n\n"))
    result = cli("init", "churn.csv")
    assert result.code == 0
    model = load_project(tmp_path / "churn" / "definitions.py").models["churn_churned"]
    assert (model.request.time, model.request.id) == ("recorded_at", "customer_id")


def test_columns_without_use_are_left_out(tmp_path):
    frame = table(60, fixed=lambda i: 7, free=lambda i: f"text {i}", few=lambda i: "ab"[i % 2], y=lambda i: i % 2 == 0)
    frame.write_csv(tmp_path / "a.csv")
    looked = scaffold.look(tmp_path / "a.csv")
    choice = scaffold.Choice("a", looked.column("y", "target"), None, None, "1d")
    assert [c.name for c in scaffold.features(looked, choice)] == ["few"]
