"""LightGBM's trees as plain values, decided on float32 inputs exactly as LightGBM decides on float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mainspring.core.errors import PackageError
from mainspring.models.signature import Signature

_LOGISTIC = ("binary", "cross_entropy")
_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape")
_ZERO = float(np.float32(1e-35))
_INFINITY = 1e300
_EXPONENTIAL = ("poisson", "gamma", "tweedie")


@dataclass(frozen=True)
class Node:
    """A split (``left`` and ``right`` are places in the tree) or, when ``left`` is negative, a leaf with ``value``.

    Attributes:
        threshold: Numeric split: left if x ≤ threshold, a float32.
        members: Categorical split: left if the category is one of these; None for a numeric split.
        missing_left: Whether a missing value goes left.
    """

    feature: int = 0
    threshold: float = 0.0
    members: frozenset[int] | None = None
    missing_left: bool = False
    left: int = -1
    right: int = -1
    value: float = 0.0


@dataclass(frozen=True)
class Forest:
    """An additive ensemble.

    Attributes:
        columns: Names of the columns that ``Node.feature`` counts.
        categories: Per categorical column (by position), the texts that the codes stand for.
        link: ``logistic``, ``identity`` or ``exp``: what is done to the sum of leaves.
    """

    columns: tuple[str, ...]
    trees: tuple[tuple[Node, ...], ...]
    link: str
    categories: dict[int, tuple[str, ...]] = field(default_factory=dict)


def floor32(threshold: float) -> float:
    """The greatest float32 that is not above ``threshold``.

    For every float32 ``x``, ``x <= threshold`` exactly when ``x <= floor32(threshold)``; rounding to nearest can move a
    threshold over the value beside it.

    >>> floor32(0.1) <= 0.1 < float(np.float32(0.1))
    True
    """
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near)


def threshold32(threshold: float) -> float:
    """The float32 that decides ``x <= threshold`` for every float32 ``x`` as LightGBM does.

    LightGBM rounds values within 1e-35 of zero to zero before it compares (``kZeroThreshold``), and puts thresholds
    right there to part zero from the rest. It reads infinity as 1e300 and parts numbers from missing ones at 1e300.

    >>> threshold32(-1.0000000180025095e-35) < -1.0000000180025095e-35
    True
    """
    if -_ZERO <= threshold < 0:
        return float(np.nextafter(np.float32(-_ZERO), np.float32(-np.inf)))
    if 0 <= threshold < _ZERO:
        return _ZERO
    return np.inf if threshold >= _INFINITY else floor32(threshold)


def read(estimator: Any, signature: Signature) -> Forest:
    """The trees of a fitted ``LGBMClassifier`` or ``LGBMRegressor``.

    Raises:
        PackageError: A kind of model that cannot be told in these terms (MS-M102), or other columns (MS-M105).
    """
    name = type(estimator).__name__
    booster = estimator.booster_
    dump = booster.dump_model()
    words = dump.get("objective", "custom").split()
    link = _link(words, name)
    sigmoid = next((float(w.split(":")[1]) for w in words if w.startswith("sigmoid:")), 1.0)
    scale = sigmoid if link == "logistic" else 1.0
    if dump.get("average_output"):
        scale /= max(1, len(dump["tree_info"]))
    trees = tuple(tuple(_nodes(tree["tree_structure"], scale, name)) for tree in dump["tree_info"])
    columns = _columns(booster, signature, name)
    categories = _categories(booster, columns, signature, name)
    if any(node.members is not None and node.feature not in categories for tree in trees for node in tree):
        raise _refuse(name, "categorical_feature=", "only columns of dtype category carry the texts behind their codes")
    return Forest(columns, trees, link, categories)


def _link(words: list[str], name: str) -> str:
    if words and not {"sqrt", "deterministic_quantile"} & set(words):
        for link, objectives in (("logistic", _LOGISTIC), ("identity", _IDENTITY), ("exp", _EXPONENTIAL)):
            if words[0] in objectives:
                return link
    known = ", ".join((*_LOGISTIC, *_IDENTITY, *_EXPONENTIAL))
    raise _refuse(name, f"objective {' '.join(words)!r}", f"objectives that can be packaged are {known}")


def _nodes(root: dict[str, Any], scale: float, name: str) -> Iterator[Node]:
    """Nodes of one tree, parents before children, left before right."""
    queue, after = [root], 1
    for raw in queue:  # grows while it is walked
        if "split_feature" not in raw:
            if "leaf_coeff" in raw:
                raise _refuse(name, "linear_tree=True", "leaves must be constants")
            yield Node(value=float(raw["leaf_value"]) * scale)
            continue
        left, right, after = after, after + 1, after + 2
        queue += [raw["left_child"], raw["right_child"]]
        feature = int(raw["split_feature"])
        if raw["decision_type"] == "==":
            members = frozenset(int(code) for code in str(raw["threshold"]).split("||"))
            yield Node(feature, members=members, left=left, right=right)
            continue
        threshold = threshold32(float(raw["threshold"]))
        if raw["missing_type"] == "Zero":
            raise _refuse(name, "zero_as_missing=True", "a zero would be read as missing")
        # Without missing values at training, LightGBM reads a missing one as 0.
        missing_left = bool(raw["default_left"]) if raw["missing_type"] == "NaN" else threshold >= 0
        yield Node(feature, threshold, None, missing_left, left, right)


def _columns(booster: Any, signature: Signature, name: str) -> tuple[str, ...]:
    """Columns of the trees, by name; a frame's order when it was fitted on a bare matrix of all numbers."""
    columns = tuple(booster.feature_name())
    known = {c.name for c in signature.inputs}
    if set(columns) <= known:
        return columns
    if len(columns) == len(signature.inputs) and not signature.texts and columns[0] == "Column_0":
        return signature.numbers
    unknown = ", ".join(sorted(set(columns) - known)[:5])
    raise PackageError(
        "MS-M105",
        f"{name} was fitted on columns that the model does not have: {unknown}",
        why="what the function returns must be the whole path from the columns of train.X",
        hint="put the preparation into a scikit-learn Pipeline and fit that on train.X",
    )


def _categories(booster: Any, columns: tuple[str, ...], signature: Signature, name: str) -> dict[int, tuple[str, ...]]:
    """Texts by code for each text column: what ``booster`` says must be what the signature says."""
    known = {c.name: c.categories for c in signature.inputs if c.kind == "text"}
    out = {place: known[column] for place, column in enumerate(columns) if column in known}
    lists = [tuple(texts) for texts in booster.pandas_categorical or []]
    if lists != list(out.values()):
        raise _refuse(
            name, "categories of its own", "text columns must be fitted as train.X gives them, as dtype category"
        )
    return out


def _refuse(name: str, what: str, why: str) -> PackageError:
    return PackageError("MS-M102", f"{name} with {what} cannot be packaged", why=why)
