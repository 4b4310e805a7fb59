"""A forest as an ONNX graph: texts to codes to set membership, then one tree ensemble over numbers.

A categorical split becomes a number: 0 where the category is in the set (left), 1 elsewhere, looked up in a table with
one row per category and one more for missing and unseen texts. So every split is ``x <= threshold`` on one matrix,
which ONNX Runtime walks fastest, and a set of any size costs the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mainspring.models.forest import Forest
from mainspring.models.signature import Signature

if TYPE_CHECKING:
    import onnx

OPSET = 18
ML_OPSET = 3
IR_VERSION = 9


def forest_graph(forest: Forest, signature: Signature) -> onnx.ModelProto:
    """The whole path from ``numbers`` and ``texts`` to ``output``, shape (rows,)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    tables: list[Any] = []
    place, lookups = _places(forest, signature)
    parts = ["numbers"] if signature.numbers else []
    for column, sets in lookups.items():
        texts = forest.categories[column]
        table = np.ones((len(texts) + 1, len(sets)), np.float32)
        for j, members in enumerate(sets):
            table[sorted(code for code in members if code < len(texts)), j] = 0.0
        at = signature.texts.index(forest.columns[column])
        tables += [
            numpy_helper.from_array(np.array(at, np.int64), f"at_{column}"),
            numpy_helper.from_array(table, f"table_{column}"),
        ]
        nodes += [
            helper.make_node("Gather", ["texts", f"at_{column}"], [f"text_{column}"], axis=1),
            helper.make_node(
                "LabelEncoder",
                [f"text_{column}"],
                [f"code_{column}"],
                domain="ai.onnx.ml",
                keys_strings=list(texts),
                values_int64s=list(range(len(texts))),
                default_int64=len(texts),
            ),
            helper.make_node("Gather", [f"table_{column}", f"code_{column}"], [f"member_{column}"], axis=0),
        ]
        parts.append(f"member_{column}")
    if len(parts) > 1:
        nodes.append(helper.make_node("Concat", parts, ["matrix"], axis=1))
    nodes.append(ensemble(forest, place, "matrix" if len(parts) > 1 else parts[0], "sum"))
    last = "sum"
    for operator in {"logistic": ["Sigmoid"], "exp": ["Exp"], "identity": []}[forest.link]:
        nodes.append(helper.make_node(operator, [last], ["linked"]))
        last = "linked"
    tables.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", [last, "flat"], ["output"]))
    inputs = inputs_of(signature)
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None])
    return model_of(helper.make_graph(nodes, "mainspring", inputs, [output], tables))


def inputs_of(signature: Signature) -> list[Any]:
    """Declared inputs of every package's graph: ``numbers`` and ``texts``, each only if the model has such columns."""
    from onnx import TensorProto, helper

    inputs = []
    if signature.numbers:
        inputs.append(helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, len(signature.numbers)]))
    if signature.texts:
        inputs.append(helper.make_tensor_value_info("texts", TensorProto.STRING, [None, len(signature.texts)]))
    return inputs


def model_of(graph: Any) -> onnx.ModelProto:
    """A checked model around ``graph``, with the opsets that this release writes."""
    import onnx
    from onnx import helper

    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="mainspring", ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


Place = dict[tuple[int, frozenset[int] | None], int]


def _places(forest: Forest, signature: Signature) -> tuple[Place, dict[int, list[frozenset[int]]]]:
    """Where each split's input lies in the matrix: numbers first, then the membership columns of each text column."""
    sets: dict[int, dict[frozenset[int], None]] = {}
    for tree in forest.trees:
        for node in tree:
            if node.left >= 0 and node.members is not None:
                sets.setdefault(node.feature, {})[node.members] = None
    numbers = {name: i for i, name in enumerate(signature.numbers)}
    place: Place = {(i, None): numbers[name] for i, name in enumerate(forest.columns) if name in numbers}
    after = len(numbers)
    for column in sorted(sets):
        for members in sets[column]:
            place[column, members] = after
            after += 1
    return place, {column: list(sets[column]) for column in sorted(sets)}


def ensemble(forest: Forest, place: Place, source: str, target: str) -> Any:
    """The ``TreeEnsembleRegressor`` node that sums the leaves of ``forest``."""
    from onnx import helper

    flat = [(t, i, node) for t, tree in enumerate(forest.trees) for i, node in enumerate(tree)]
    leaves = [(t, i, node) for t, i, node in flat if node.left < 0]

    def each(value: Any) -> Sequence[Any]:
        return [value(node) if node.left >= 0 else 0 for _, _, node in flat]

    return helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        [target],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=[t for t, _, _ in flat],
        nodes_nodeids=[i for _, i, _ in flat],
        nodes_featureids=each(lambda n: place[n.feature, n.members]),
        nodes_modes=["BRANCH_LEQ" if node.left >= 0 else "LEAF" for _, _, node in flat],
        nodes_values=[float(v) for v in each(lambda n: n.threshold if n.members is None else 0.5)],
        nodes_truenodeids=each(lambda n: n.left),
        nodes_falsenodeids=each(lambda n: n.right),
        nodes_missing_value_tracks_true=each(lambda n: int(n.missing_left)),
        target_treeids=[t for t, _, _ in leaves],
        target_nodeids=[i for _, i, _ in leaves],
        target_ids=[0] * len(leaves),
        target_weights=[node.value for _, _, node in leaves],
    )
