"""Train a model: split by time, fit, evaluate, gate, fit again on all rows, package, check, record."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import MainspringError, RefusedError
from mainspring.core.times import to_iso
from mainspring.definitions import Dataset, ModelDef
from mainspring.models import (
    Constant,
    GateResult,
    Meta,
    Package,
    Runtime,
    Signature,
    check_estimator,
    check_outputs,
    constant_graph,
    convert,
    estimate,
    features_of,
    libraries,
    write,
)
from mainspring.models.thresholds import UNSEEN
from mainspring.training.baseline import fit_baseline
from mainspring.training.evaluate import evaluate
from mainspring.training.gates import judge
from mainspring.training.latency import latency_gates
from mainspring.training.split import Split, temporal
from mainspring.training.tracking import Run, Tracking
from mainspring.training.trainingset import TrainingSet

_LEAST_COMPARED = 100
"""Rows new to champion and candidate below which a comparison is left to live evidence."""
_EXAMPLES = 20
_CHECKED = 4_000


@dataclass(frozen=True, eq=False)
class Tested:
    """Rows of the test split in order of time: outcome, prediction and that of the baseline, each shape (rows,)."""

    time_us: npt.NDArray[np.int64]
    y: npt.NDArray[np.float64]
    predicted: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A trained, packaged and checked version, and whether it met its gates.

    Attributes:
        metrics: Of the candidate on the test split, of the baseline (``baseline_…``) and, on the rows new to both, of
            the champion (``champion_…``, beside ``against_champion_…``).
        seconds: Wall time by step.
        run_id: Of the tracking run; empty without tracking.
        tested: The test split row by row, for measures over days.
    """

    model: str
    version: str
    path: Path
    package: Package
    dataset: str
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    split: Split
    run_id: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    tested: Tested | None = None

    @property
    def passed(self) -> bool:
        """Whether every gate was met."""
        return all(gate.passed for gate in self.gates)


def train(
    model: ModelDef,
    training_set: TrainingSet,
    packages: Path,
    *,
    now_us: int,
    champion: Package | None = None,
    tracking: Tracking | None = None,
    refit: bool = True,
    test_share: float = 0.2,
) -> Candidate:
    """Train ``model`` on ``training_set``; gates are judged and recorded here, and enforced by whoever releases.

    The metrics are those of a fit on the rows before the cut, asked about the rows after it. What is packaged is, with
    ``refit``, the same function fitted on all rows: the newest months are worth more in production than in a test.

    Args:
        model: The definition.
        training_set: Rows with mature labels.
        packages: Folder of all packages.
        now_us: The clock: when the version was created.
        champion: What serves now, for gates that ask to beat it.
        tracking: Where the run is recorded, if anywhere.
        refit: Fit again on all rows before packaging.
        test_share: Share of rows, the last ones, that the evaluation is made on.

    Raises:
        RefusedError: Too few rows (MS-T101), or the training function fails (MS-T106).
        PackageError: The estimator cannot be packaged, or its graph says something else (MS-M1xx).
    """
    clock = _Stopwatch()
    with clock.step("split"):
        seen = champion.meta.known_until_us if champion is not None else None
        split = temporal(training_set.time_us, training_set.mature_at_us, test_share=test_share, not_before_us=seen)
        data, signature = training_set.dataset(model, split.train)
        tested = training_set.columns(split.test)
        y = training_set.y[split.test]
    with clock.step("fit"):
        estimator = _fit(model, data, signature)
    with clock.step("baseline"):
        reference, reference_signature = fit_baseline(model, data.X, data.y, signature)
    with clock.step("evaluate"):
        predicted = estimate(estimator, tested, signature)
        metrics = evaluate(model.task, y, predicted)
        plain_predicted = estimate(reference, tested, reference_signature)
        plain = evaluate(model.task, y, plain_predicted)
        compared, why_not = _against(champion, model, training_set, split, y, predicted)
        gates = judge(model.gates, model.task, metrics, plain, compared, why_not)
        metrics |= {f"baseline_{k}": v for k, v in plain.items()}
        if compared is not None:
            metrics |= {f"against_champion_{k}": v for k, v in compared[0].items()}
            metrics |= {f"champion_{k}": v for k, v in compared[1].items()}
    everything = np.ones(len(training_set.time_us), np.bool_)
    if refit:
        with clock.step("refit"):
            data, signature = training_set.dataset(model, everything)
            estimator = _fit(model, data, signature)
            reference, reference_signature = fit_baseline(model, data.X, data.y, signature)
    with clock.step("convert"):
        graph = convert(estimator, signature, model.name).SerializeToString(deterministic=True)
        plain_graph = _baseline_graph(reference, reference_signature, model).SerializeToString(deterministic=True)
    with clock.step("check"):
        asked = training_set.columns(_spread(split.test, _CHECKED))
        numbers, texts = signature.numbers_matrix(asked), signature.texts_matrix(asked)
        runtime = Runtime(graph, signature)
        report = check_outputs(estimator, runtime, numbers, texts, model.name)
        gates += latency_gates(model.latency, runtime, numbers, texts)
        if not isinstance(reference, Constant):
            part = reference_signature
            baseline = Runtime(plain_graph, part)
            check_outputs(
                reference, baseline, part.numbers_matrix(asked), part.texts_matrix(asked), f"{model.name} (baseline)"
            )
    trained = everything if refit else split.train
    with clock.step("package"):
        meta = Meta(
            model=model.name,
            task=model.task,
            definition_version=model.version,
            features=features_of(model),
            views=tuple(view.describe() | {"version": view.version} for view in model.views),
            label=model.label.describe(),
            dataset=training_set.hash,
            dataset_rows=len(everything),
            trained_rows=int(trained.sum()),
            trained_from_us=int(training_set.time_us[trained][0]),
            trained_until_us=int(training_set.time_us[trained][-1]),
            known_until_us=training_set.meta.known_until_us if refit else split.cut_us,
            created_at_us=now_us,
            refitted=refit,
            seed=model.seed,
            estimator=type(estimator).__name__,
            baseline=type(reference).__name__,
            metrics={k: v for k, v in metrics.items() if v == v},
            gates=gates,
            check=asdict(report),
            libraries=libraries(),
        )
        examples = _examples(signature, numbers, texts)
        package = write(packages, meta, (graph, plain_graph), (signature, reference_signature), examples)
        package.verify_examples()
    run_id = ""
    if tracking is not None:
        with clock.step("track"):
            run_id = tracking.record(_run(model, training_set, package, split, metrics, gates, estimator, now_us))
    return Candidate(
        model.name,
        package.version,
        package.path,
        package,
        training_set.hash,
        metrics,
        gates,
        split,
        run_id,
        clock.seconds,
        Tested(training_set.time_us[split.test], y, predicted, plain_predicted),
    )


class _Stopwatch:
    """Wall time by step: measured, never decided upon."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def _fit(model: ModelDef, data: Dataset, signature: Signature) -> Any:
    """Run the user's function; what it raises is told with the line of the definitions file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = model.fit(data)
    except MainspringError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename == model.place.file] or list(frames[-1:])
        where = f"{own[-1].filename}:{own[-1].lineno}" if own else model.name
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise RefusedError(
            "MS-T106", f"the training function of model {model.name} failed", where=where, why=why
        ) from error
    check_estimator(estimator, signature, model.name)
    return estimator


def _against(
    champion: Package | None,
    model: ModelDef,
    training_set: TrainingSet,
    split: Split,
    y: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.float64],
) -> tuple[tuple[dict[str, float], dict[str, float]] | None, str]:
    """Metrics of candidate and champion on the test rows that the champion has not been trained on."""
    if champion is None:
        return None, "there is no champion yet"
    new = training_set.time_us[split.test] >= champion.meta.known_until_us
    if new.sum() < _LEAST_COMPARED:
        return None, f"only {int(new.sum())} test rows are new to the champion; live evidence decides"
    rows = np.flatnonzero(split.test)[new]
    try:
        theirs = champion.runtime.predict(training_set.columns(rows))
    except MainspringError as error:
        return None, f"the champion reads other columns ({error.what}); live evidence decides"
    return (evaluate(model.task, y[new], predicted[new]), evaluate(model.task, y[new], theirs)), ""


def _baseline_graph(reference: Any, signature: Signature, model: ModelDef) -> Any:
    if isinstance(reference, Constant):
        return constant_graph(reference.value, signature)
    return convert(reference, signature, f"{model.name}_baseline")


def _spread(mask: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.int64]:
    """At most ``most`` places of ``mask``, evenly spread."""
    places = np.flatnonzero(mask)
    return places[np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64))]


def _examples(signature: Signature, numbers: Any, texts: Any) -> tuple[Any, Any]:
    """A few rows as they are, one with everything missing that may be, one with unseen texts."""
    at = np.unique(np.linspace(0, len(numbers) - 1, min(_EXAMPLES, len(numbers))).astype(np.int64))
    nullable = {c.name for c in signature.inputs if c.nullable}
    rows, words = numbers[at], texts[at]
    empty, silent, strange = rows[:1].copy(), words[:1].copy(), words[:1].copy()
    empty[:, [i for i, n in enumerate(signature.numbers) if n in nullable]] = np.nan
    silent[:, [i for i, n in enumerate(signature.texts) if n in nullable]] = signature.missing_text
    strange[:] = UNSEEN
    return np.concatenate([rows, empty, rows[:1]]), np.concatenate([words, silent, strange])


def _run(
    model: ModelDef,
    training_set: TrainingSet,
    package: Package,
    split: Split,
    metrics: dict[str, float],
    gates: tuple[GateResult, ...],
    estimator: Any,
    now_us: int,
) -> Run:
    parameters = {
        "estimator": type(estimator).__name__,
        "seed": str(model.seed),
        "refitted": str(package.meta.refitted),
    }
    parameters |= {k: str(v) for k, v in estimator.get_params(deep=False).items() if v is not None}
    parameters |= {"cut": to_iso(split.cut_us), "rows": str(package.meta.trained_rows), "purged": str(split.purged)}
    meta = training_set.meta
    tags = {
        "mainspring.dataset": training_set.hash,
        "mainspring.definition": model.version,
        "mainspring.label": meta.label["source"]["name"],
        "mainspring.gates": "passed" if all(g.passed for g in gates) else "failed",
    }
    tags |= {f"mainspring.view.{name}": version for name, version in meta.views.items()}
    tags |= {f"mainspring.source.{name}": f"{s.version}@{s.last_offset}" for name, s in meta.sources.items()}
    return Run(model.name, package.version, package.path, now_us, now_us, parameters, metrics, tags)
