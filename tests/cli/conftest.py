"""The command line in this process, and small files to work on."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mainspring.cli.app import run


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self):
        return json.loads(self.err)


@pytest.fixture
def cli(capsys):
    """Runs a command line; with ``at=`` in the project there."""

    def call(*argv, at: Path | None = None):
        capsys.readouterr()
        where = [] if at is None else ["-C", str(at)]
        code = run([*(str(a) for a in argv), *where])
        shown = capsys.readouterr()
        return Result(code, shown.out, shown.err)

    return call


@pytest.fixture
def project(tmp_path):
    """A project with two sources and a view; nothing is applied."""
    (tmp_path / "mainspring.toml").write_text(
        '[project]\nname = "rides"\n[intake]\nport = 0\n[gateway]\nport = 0\n[limits]\n'
        "log_map_bytes = 67108864\nstate_map_bytes = 67108864\n"
    )
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    return tmp_path


DEFINITIONS = '''
from datetime import datetime

import mainspring as ms
from mainspring import col


class Asked(ms.Source, id="ride", time="asked_at"):
    """A ride, asked for."""

    ride: str
    city: str
    km: float
    asked_at: datetime


class Done(ms.Source, id="ride", time="done_at"):
    """A ride that is over."""

    ride: str
    city: str
    minutes: float
    done_at: datetime


@ms.feature_view(Done, entity="city")
class City:
    """How rides have been lately."""

    minutes_6h = ms.mean("minutes", window="6h")
    rides_6h = ms.count(window="6h")


late = ms.label(Done, on="ride", value=col("minutes") > 30, within="3h", otherwise=ms.exclude)


@ms.model(
    request=Asked,
    label=late,
    task="binary_classification",
    features=[City, "km"],
    gates=[ms.gate("roc_auc", at_least=0.6)],
    rollout=ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)], veto=[ms.guard("errors")]),
    otherwise=ms.otherwise(value=0.5),
)
def is_late(train: ms.Dataset):
    """Whether a ride takes more than half an hour."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.impute import SimpleImputer

    return make_pipeline(SimpleImputer(), LogisticRegression()).fit(train.X, train.y)
'''


@pytest.fixture
def rides():
    """Rows of both sources, (asked, done): rides that take longer the farther they go."""

    def make(n=600):
        asked, done = [], []
        for i in range(n):
            at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=20 * i)
            km = float((i * 37) % 40)
            minutes = km + (i * 13) % 7 + 3.0
            city = ("graz", "linz")[i % 2]
            asked.append({"ride": f"r{i}", "city": city, "km": km, "asked_at": at.isoformat()})
            over = (at + timedelta(minutes=minutes)).isoformat()
            done.append({"ride": f"r{i}", "city": city, "minutes": minutes, "done_at": over})
        return asked, done

    return make


@pytest.fixture
def lines(project):
    """Writes rows as a file of JSON lines in the project's folder."""

    def write(name, rows):
        path = project / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
