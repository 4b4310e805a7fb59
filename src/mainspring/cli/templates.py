"""What the files of a new project say."""

from __future__ import annotations

import json
import os
import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mainspring.cli.scaffold import Choice, Table, features
from mainspring.core.errors import RefusedError
from mainspring.core.names import snake_case
from mainspring.core.spans import UNITS_US, format_span

STEPS_US = tuple(
    n * UNITS_US[unit] for n, unit in ((1, "d"), (6, "h"), (1, "h"), (10, "m"), (1, "m"), (10, "s"), (1, "s"))
)
SPAN_US = 20 * 365 * UNITS_US["d"]
FILES = ("definitions.py", "mainspring.toml", "test_definitions.py", "README.md")
_YES = ("yes", "true", "1", "y", "t", "positive", "late", "churned", "fraud", "bad")


def write(table: Table, choice: Choice, folder: Path) -> list[Path]:
    """Write the project's files; returns them.

    Raises:
        RefusedError: One of them is there already (MS-C074).
    """
    for name in FILES:
        if (folder / name).exists():
            raise RefusedError(
                "MS-C074", f"{name} is there already", where=str(folder), hint="name another folder with --folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    contents = (
        _definitions(table, choice),
        _settings(choice),
        _test(table, choice, folder),
        _readme(table, choice, folder),
    )
    for name, content in zip(FILES, contents, strict=True):
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in FILES]


def _free(name: str, table: Table) -> str:
    while any(name == c.name for c in table.columns):
        name += "_"
    return name


def id_name(table: Table, choice: Choice) -> str:
    """Column of the id, made or found."""
    return choice.id.name if choice.id is not None else _free("row_id", table)


def time_name(table: Table, choice: Choice) -> str:
    """Column of the time, made or found."""
    return choice.time.name if choice.time is not None else _free("recorded_at", table)


def model_name(choice: Choice) -> str:
    """Name of the model."""
    return f"{choice.name}_{choice.target.name}"


def step_us(table: Table) -> int:
    """Time from a row to the next where its place stands for it: a round span; all rows lie within 20 years."""
    return next((s for s in STEPS_US if s * table.all_rows <= SPAN_US), STEPS_US[-1])


def ingest_command(table: Table, choice: Choice, folder: Path) -> str:
    """How the file is loaded, from the project's folder."""
    file, outcome = shlex.quote(_relative(table.path, folder)), f"{choice.name}_outcome"
    parts = [f"mainspring ingest {file} --source {choice.name} --source {outcome} --pick"]
    if choice.id is None:
        parts.append(f"--row-id {id_name(table, choice)}")
    if choice.time is None:
        parts.append(f"--row-time {time_name(table, choice)} --row-every {format_span(step_us(table))}")
    return " ".join(parts)


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _named(cls: str, name: str) -> str:
    """The name of a source, where its class does not give it already."""
    return "" if snake_case(cls) == name else f', name="{name}"'


def _said(text: str) -> str:
    """A file's name as part of a page or a program: whatever could end a string there is left out."""
    return re.sub(r"[^A-Za-z0-9._ -]", "_", text)


def _annotation(kind: str, *, nullable: bool) -> str:
    return kind + (" | None" if nullable else "")


def _is_binary(choice: Choice) -> bool:
    return choice.target.kind == "bool" or choice.target.distinct - choice.target.nullable == 2


def _value(table: Table, choice: Choice) -> str:
    """The label's value over the outcome's columns."""
    target = choice.target
    column = f'col("{target.name}")'
    if not _is_binary(choice) or target.kind == "bool":
        return column
    return f"{column} == {json.dumps(_yes(table, choice))}"


def _yes(table: Table, choice: Choice) -> Any:
    """The value of the target that is true."""
    values = table.frame[choice.target.name].drop_nulls().unique().sort().to_list()
    return next((v for v in values if str(v).lower() in _YES), values[-1])


def _definitions(table: Table, choice: Choice) -> str:
    id_, time = id_name(table, choice), time_name(table, choice)
    request, outcome = _class(choice.name), _class(choice.name) + "Outcome"
    id_kind = choice.id.kind if choice.id is not None else "str"
    used = features(table, choice)
    left = [c for c in table.columns if c not in used and c not in (choice.target, choice.time, choice.id)]
    kept = [c for c in table.columns if c.kind and c not in (choice.target, choice.time, choice.id)]
    lines = [f"    {id_}: {id_kind}"]
    lines += [f"    {c.name}: {_annotation(c.kind, nullable=c.nullable)}" for c in kept]
    lines += [f"    {time}: datetime"]
    names = "\n".join(f'"{c.name}",' for c in used)
    if choice.time is not None:
        names += f'\ncol("{time}").dt.weekday().alias("{_free("weekday", table)}"),'
    binary = _is_binary(choice)
    estimator = "LGBMClassifier" if binary else "LGBMRegressor"
    unused = ", ".join(c.name for c in left)
    left_out = f"\n# Not used to predict (constant, dates, or hardly a value twice): {unused}.\n" if left else ""
    target = f"    {choice.target.name}: {_annotation(choice.target.kind, nullable=choice.target.nullable)}"
    return f'''"""What {choice.name} are, what is predicted of them, and what a release must earn.

Made by `mainspring init` from {_said(table.path.name)}; yours now.
"""

from datetime import datetime

import mainspring as ms
from mainspring import col


class {request}(ms.Source, id="{id_}", time="{time}"{_named(request, choice.name)}):
    """One row of the file without its outcome: what a prediction is asked with."""

{chr(10).join(lines)}


class {outcome}(ms.Source, id="{id_}", time="{time}"{_named(outcome, choice.name + "_outcome")}):
    """What became of it. In the file it is known at once; in life it is sent when it is known."""

    {id_}: {id_kind}
{target}
    {time}: datetime


# The first outcome within {choice.within} of the request counts; a row without one is left out.
label = ms.label({outcome}, on="{id_}", value={_value(table, choice)}, within="{choice.within}", otherwise=ms.exclude)
{left_out}

@ms.model(
    request={request},
    label=label,
    task="{"binary_classification" if binary else "regression"}",
    # A column that is only known afterwards must not be a feature: move it to {outcome}.
    features=[
{textwrap.indent(names, "        ")}
    ],
{textwrap.indent(_earned(table, choice), "    ")}
)
def {model_name(choice)}(train: ms.Dataset):
    """Predict {choice.target.name}."""
    from lightgbm import {estimator}  # here, so that commands that do not train start at once

    model = {estimator}(num_leaves=15, learning_rate=0.05, random_state=train.seed, verbose=-1)
    return model.fit(train.X, train.y)
'''


def _earned(table: Table, choice: Choice) -> str:
    """Gates, rollout and monitor of the model, and what is answered when it cannot."""
    values = table.frame[choice.target.name].drop_nulls()
    if _is_binary(choice):
        usual, of = float((values == _yes(table, choice)).mean() or 0.0), "the share of the file"
        loss, guard, worse = "log_loss", 'ms.guard("log_loss", margin=0.02)', 0.02
        floor = 'ms.gate("roc_auc", at_least=0.6)'
    else:
        values = values.cast(float)
        usual, of = float(values.median() or 0.0), "the median of the file"  # type: ignore[arg-type]
        away = (values - usual).abs()
        bound = float(f"{max(float(away.quantile(0.99) or 0.0), 1e-9):.2g}")
        margin = float(f"{0.05 * max(float(away.mean() or 0.0), 1e-9):.2g}")  # type: ignore[arg-type]
        loss, guard, worse = "absolute_error", f'ms.guard("absolute_error", margin={margin:g}, bound={bound:g})', margin
        floor = 'ms.gate("r2", at_least=0.05)'
    return textwrap.dedent(
        f"""\
        gates=[{floor}, ms.gate("{loss}", beats="champion")],
        rollout=ms.Rollout(
            shadow="1d",
            ramp=[0.05, 0.25, 0.5],
            prove=[{guard}],
            veto=[ms.guard("errors")],
        ),
        monitor=ms.Monitor(every="1d", retrain=ms.when_worse("{loss}", by={worse:g}) | ms.every("30d")),
        # When the model fails or is late the version before it answers, then this number: {of}.
        otherwise=ms.otherwise(value={usual:.4g}),"""
    )


def _settings(choice: Choice) -> str:
    return f'[project]\nname = "{choice.name}"\n'


def _pick(table: Table, choice: Choice) -> str:
    made = [f'{role}="{name}"' for role, name in _made(table, choice)]
    made += [] if choice.time is not None else [f"step_us={step_us(table):_}"]
    return f"Pick({', '.join(made)})"


def _made(table: Table, choice: Choice) -> Sequence[tuple[str, str]]:
    out = []
    if choice.id is None:
        out.append(("id", id_name(table, choice)))
    if choice.time is None:
        out.append(("time", time_name(table, choice)))
    return out


def _test(table: Table, choice: Choice, folder: Path) -> str:
    return f'''"""The definitions and the file that they were made from fit together.

Run with ``python -m pytest``, after ``pip install pytest``.
"""

from itertools import islice
from pathlib import Path

import polars as pl

from mainspring.definitions import load_project
from mainspring.events import Contract
from mainspring.events.columns import Pick, picked_rows

HERE = Path(__file__).parent
FILE = HERE / {_relative(table.path, folder)!r}
PICK = {_pick(table, choice)}
PROJECT = load_project(HERE / "definitions.py")


def rows(source):
    """The first rows of the file, as events of a source."""
    found = list(islice(picked_rows(FILE, PROJECT.sources[source], PICK), 1_000))
    broken = [row.line for row in found if row.problem is not None]
    assert not broken, f"broken rows: lines {{broken}}"
    return [row.fields for row in found]


def test_rows_of_the_file_meet_the_contracts():
    for source in ("{choice.name}", "{choice.name}_outcome"):
        contract = Contract(PROJECT.sources[source])
        for fields in rows(source):
            contract.check(fields)


def test_outcomes_of_the_file_differ():
    label = PROJECT.models["{model_name(choice)}"].label
    outcomes = pl.DataFrame([{{k: f[k] for k in label.value.inputs}} for f in rows("{choice.name}_outcome")])
    assert outcomes.select(label.value.expr).to_series().drop_nulls().n_unique() > 1
'''


def _readme(table: Table, choice: Choice, folder: Path) -> str:
    model = model_name(choice)
    return f"""# {choice.name}

Predicts `{choice.target.name}` from `{_said(table.path.name)}`. Made by `mainspring init`.

    mainspring apply                  # put definitions.py in force
    {ingest_command(table, choice, folder)}
    mainspring train {model} --release
    mainspring up                     # predictions at http://127.0.0.1:7070/predict/{model}

Then send each outcome, when it is known, to `http://127.0.0.1:7071/events/{choice.name}_outcome`, and watch
`mainspring status`: the model is judged on outcomes and trained again by its rule; a new version earns its traffic.

`definitions.py` says what everything is; `mainspring plan` shows what a change would do. `test_definitions.py` checks
it against the file. It needs pytest, which does not come with mainspring:

    pip install pytest
    python -m pytest
"""
