"""The trees of a graph, where the graph is nothing but one sum of trees, its link, and columns picked for it.

That is what ``forest_graph`` writes, and what skl2onnx makes of a regressor of trees, or of a classifier of two
classes, on numbers as they come.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mainspring.models.plans import Ensemble, Ints, sweep_plan, walk_plan
from mainspring.models.trees import Lookup, Trees, keys_of
from mainspring.models.walk import EXPONENTIAL, IDENTITY, LOGISTIC

_DEEPEST = 64
"""Levels of a tree that is walked: each walk takes as many steps as its tree is deep."""
_MOST_COLUMNS, _MOST_PLACES = 16_000, 0xFFFF
CLASSIFIER = "TreeEnsembleClassifier"
_ENSEMBLES = ("TreeEnsembleRegressor", CLASSIFIER)
_LINKS = {"Sigmoid": LOGISTIC, "Exp": EXPONENTIAL}
_OF_CLASSES = {"NONE": IDENTITY, "LOGISTIC": LOGISTIC}
_DEFAULTS = {"aggregate_function": b"SUM", "post_transform": b"NONE", "n_targets": 1}
_NODES = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
_READ = {*_DEFAULTS, "base_values", "nodes_hitrates", "nodes_missing_value_tracks_true"}
_READ |= {f"nodes_{name}" for name in _NODES} | {f"target_{name}" for name in ("ids", "treeids", "nodeids", "weights")}


class _NotUnderstood(Exception):
    """The graph is another one."""


def read(graph: Any) -> tuple[Trees, str] | None:
    """The trees of an ONNX ``GraphProto``, and the name of their sum in it; None if it is anything else."""
    try:
        return _Graph(graph).trees()
    except (_NotUnderstood, LookupError, ValueError, TypeError, OverflowError):
        return None


def _require(holds: object) -> None:
    if not holds:
        raise _NotUnderstood


class _Graph:
    """A graph, looked at from its output."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._made = {name: node for node in graph.node for name in node.output}
        self._constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._widths = {one.name: one.type.tensor_type.shape.dim[1].dim_value for one in graph.input}
        self._lookups: dict[str, tuple[int, Lookup]] = {}  # with its first column

    def trees(self) -> tuple[Trees, str]:
        _require(self._made["output"].op_type == "Reshape")  # to one number a row
        name, link, is_second = "output", IDENTITY, False
        while (node := self._made.pop(name)).op_type not in _ENSEMBLES:  # none twice: a circle has no end
            name = node.input[0]
            if node.op_type in _LINKS and link == IDENTITY:
                link = _LINKS[node.op_type]
            elif node.op_type == "Gather":  # the probability of True, beside that of False
                _require(_attributes(node) == {"axis": 1} and self._constant(node, 1) == [1] and not is_second)
                is_second = True
            elif node.op_type == "Concat":
                _require(_attributes(node) == {"axis": 1} and len(node.input) == 2 and is_second)
                name, is_second = node.input[1], False
            elif node.op_type == "Reshape":
                _require(self._constant(node, 1) == [-1])
            else:
                _require(self._is_as_it_was(node))
        said = _attributes(node)
        if node.op_type == CLASSIFIER:
            _require(is_second and name == node.output[1] and link == IDENTITY)
            said, link = _of_one_class(said)
        else:
            _require(not is_second)
        columns = np.array(self._columns(node.input[0]), np.int64)
        numbers = self._widths.get("numbers", 0)
        lookups = tuple(lookup for _, lookup in self._lookups.values())
        width = numbers + sum(one.table.shape[1] for one in lookups)
        _require(0 < width <= _MOST_COLUMNS)
        found = _ensemble(said, columns, width, numbers, link)
        return Trees(walk_plan(found), sweep_plan(found), numbers, lookups), name

    def _columns(self, name: str) -> list[int]:
        """Which columns of the matrix that is walked a matrix of the graph has; lookups are added as they are met."""
        if name == "numbers":
            return list(range(self._widths[name]))
        node = self._made[name]
        if node.op_type == "Concat":
            _require(_attributes(node) == {"axis": 1})
            return [column for part in node.input for column in self._columns(part)]
        if node.op_type == "Gather" and node.input[0] in self._constants:
            return self._looked_up(name, node)
        if node.op_type == "Gather":
            _require(_attributes(node) == {"axis": 1})
            columns = self._columns(node.input[0])
            return [columns[i] for i in self._constant(node, 1)]
        _require(self._is_as_it_was(node))
        return self._columns(node.input[0])

    def _looked_up(self, name: str, node: Any) -> list[int]:
        """The columns of a table in which a text finds its row."""
        if name not in self._lookups:
            encoder = self._made[node.input[1]]
            column = self._made[encoder.input[0]]
            said, table = _attributes(encoder), self._constants[node.input[0]]
            _require(encoder.op_type == "LabelEncoder" and column.op_type == "Gather" and column.input[0] == "texts")
            _require(_attributes(column) == {"axis": 1} and _attributes(node) == {"axis": 0} and table.ndim == 2)
            _require(said.keys() == {"keys_strings", "values_int64s", "default_int64"} and table.dtype == np.float32)
            keys, values, other = (said[key] for key in ("keys_strings", "values_int64s", "default_int64"))
            _require(all(0 <= code < len(table) for code in (*values, other)) and not np.isnan(table).any())
            codes = dict(zip((key.decode() for key in keys), values, strict=True))
            after = self._widths.get("numbers", 0) + sum(one.table.shape[1] for _, one in self._lookups.values())
            at = int(self._constants[column.input[1]])
            _require(0 <= at < self._widths["texts"])
            self._lookups[name] = after, Lookup(at, codes, other, table)
        first, lookup = self._lookups[name]
        return list(range(first, first + lookup.table.shape[1]))

    def _constant(self, node: Any, place: int) -> list[int]:
        return [int(value) for value in self._constants[node.input[place]].reshape(-1)]

    def _is_as_it_was(self, node: Any) -> bool:
        from onnx import TensorProto

        if node.op_type == "Cast":
            return bool(_attributes(node)["to"] == TensorProto.FLOAT)
        return bool(node.op_type == "Identity")


def _attributes(node: Any) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {one.name: get_attribute_value(one) for one in node.attribute}


def _of_one_class(said: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """A classifier of two classes that adds one number a leaf, as a regressor says it, and its link."""
    labels = said.pop("classlabels_int64s", None) or said.pop("classlabels_strings")
    _require(len(labels) == 2 and len({*said.pop("class_ids")}) == 1)
    link = _OF_CLASSES[said.pop("post_transform", b"NONE").decode()]
    for name in ("treeids", "nodeids", "weights"):
        said[f"target_{name}"] = said.pop(f"class_{name}")
    return said | {"target_ids": [0]}, link


def _ensemble(said: dict[str, Any], columns: Ints, width: int, numbers: int, link: int) -> Ensemble:
    """The trees of a ``TreeEnsembleRegressor`` over ``columns`` of a matrix of ``width``: ``numbers``, then lookups."""
    _require(said.keys() <= _READ and all(said.get(key, value) == value for key, value in _DEFAULTS.items()))
    trees, ids, features, modes, thresholds, lefts, rights = (np.array(said[f"nodes_{name}"]) for name in _NODES)
    first = np.flatnonzero(np.r_[True, np.diff(trees) != 0])
    sizes = np.diff(np.r_[first, len(trees)])
    tree = np.repeat(np.arange(len(first)), sizes)
    _require((np.diff(trees) >= 0).all() and (ids == np.arange(len(ids)) - first[tree]).all())
    inner, is_less = modes != b"LEAF", modes == b"BRANCH_LT"
    _require((inner == (is_less | (modes == b"BRANCH_LEQ"))).all() and (sizes <= _MOST_PLACES).all())
    _require(inner.any() and ((lefts >= 0) & (rights >= 0) & (lefts < sizes[tree]) & (rights < sizes[tree])).all())
    below, above = first[tree] + lefts, first[tree] + rights

    exact = thresholds.astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        exact[is_less] = np.nextafter(exact[is_less], np.float32(-np.inf))  # x < t as x ≤ the number before it
    _require(not np.isnan(exact).any() and not np.isneginf(thresholds[is_less]).any() and features.min() >= 0)
    missing_left = np.array(said.get("nodes_missing_value_tracks_true") or [0] * len(tree)) != 0
    leaves = first[np.searchsorted(trees[first], said["target_treeids"])] + np.array(said["target_nodeids"])
    _require((np.sort(leaves) == np.flatnonzero(~inner)).all() and not any(said["target_ids"]))
    values = np.zeros(len(tree), np.float32)
    values[leaves] = said["target_weights"]
    base = np.array(said.get("base_values") or [0.0], np.float32)
    _require(len(base) == 1)
    return Ensemble(
        tree=tree,
        first=first,
        below=below,
        above=above,
        column=np.where(inner, 1 + columns[features] + width * (missing_left & (columns[features] < numbers)), 0),
        word=np.where(inner, keys_of(exact), values.view(np.int32)),
        levels=_levels(first, inner, below, above),
        missing=numbers,
        base=int(base.view(np.int32)[0]),
        link=link,
    )


def _levels(first: Ints, inner: Any, below: Ints, above: Ints) -> tuple[Ints, ...]:
    """The splits of each level, from the roots on, once it is sure that they lead to each node in one way."""
    levels, reached, front = [], [first], first
    for _ in range(_DEEPEST):
        front = front[inner[front]]
        if len(front):
            levels.append(front)
            front = np.column_stack([below[front], above[front]]).reshape(-1)
            reached.append(front)
            _require(sum(map(len, reached)) <= len(inner))
    _require(not inner[front].any() and (np.sort(np.concatenate(reached)) == np.arange(len(inner))).all())
    return tuple(levels)
