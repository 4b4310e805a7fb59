"""Gates: conditions a candidate meets on the test split before it may be released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mainspring.definitions import Gate
from mainspring.models import GateResult
from mainspring.training.evaluate import better

Metrics = Mapping[str, float]


def judge(
    gates: Sequence[Gate],
    task: str,
    candidate: Metrics,
    baseline: Metrics,
    champion: tuple[Metrics, Metrics] | None,
    no_champion: str = "there is no champion yet",
) -> tuple[GateResult, ...]:
    """Decide each gate.

    Args:
        gates: As defined.
        task: Of the model.
        candidate: Its metrics on the test split.
        baseline: The baseline's, on the same rows.
        champion: Metrics of candidate and champion on the test rows that are new to both; None when there are none.
        no_champion: Why there are none; such a gate passes and says so: live evidence decides.
    """
    return tuple(_decide(gate, task, candidate, baseline, champion, no_champion) for gate in gates)


def _decide(
    gate: Gate,
    task: str,
    candidate: Metrics,
    baseline: Metrics,
    champion: tuple[Metrics, Metrics] | None,
    no_champion: str,
) -> GateResult:
    metric, value = gate.metric, candidate[gate.metric]
    if gate.at_least is not None:
        return GateResult(f"{metric} at least {gate.at_least:g}", metric, value >= gate.at_least, value, gate.at_least)
    if gate.at_most is not None:
        return GateResult(f"{metric} at most {gate.at_most:g}", metric, value <= gate.at_most, value, gate.at_most)
    name = f"{metric} beats {gate.beats}"
    if gate.beats == "baseline":
        return GateResult(name, metric, better(task, metric, value, baseline[metric]), value, baseline[metric])
    if champion is None:
        return GateResult(name, metric, passed=True, value=value, note=no_champion)
    mine, theirs = champion[0][metric], champion[1][metric]
    return GateResult(name, metric, better(task, metric, mine, theirs), mine, theirs)


def describe(result: GateResult) -> str:
    """One line for terminals.

    >>> describe(GateResult("roc_auc at least 0.7", "roc_auc", True, 0.7512, 0.7))
    'passed  roc_auc at least 0.7: 0.7512 against 0.7000'
    """
    word = "passed" if result.passed else "failed"
    parts = [f"{x:.4f}" for x in (result.value, result.bound) if x is not None]
    return f"{word}  {result.gate}: {' against '.join(parts)}" + (f" ({result.note})" if result.note else "")
