"""A scikit-learn pipeline as an ONNX graph with a package's two inputs, through skl2onnx."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from mainspring.core.errors import PackageError
from mainspring.models.convert import parts
from mainspring.models.forest import read
from mainspring.models.graph import ML_OPSET, OPSET, ensemble, inputs_of, model_of
from mainspring.models.signature import InputColumn, Signature

if TYPE_CHECKING:
    import onnx

_ENCODERS = ("OneHotEncoder", "OrdinalEncoder")


def pipeline_graph(estimator: Any, signature: Signature, owner: str) -> onnx.ModelProto:
    """The graph of any estimator that skl2onnx converts, LightGBM inside it included.

    A missing text reaches the graph as ``signature.missing_text``; imputers and encoders that learned NaN are taught
    that word, in a copy.

    Raises:
        PackageError: skl2onnx does not convert a part of it (MS-M101), or its columns are not the model's (MS-M105).
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    _register_forests()
    with_columns = [type(part).__name__ for part in parts(estimator)].count("ColumnTransformer") > 0
    used = _columns(estimator, signature, owner)
    if with_columns:
        types = {"number": FloatTensorType([None, 1]), "text": StringTensorType([None, 1])}
        declared = [(column.name, types[column.kind]) for column in used.inputs]
    elif used.numbers and used.texts:
        raise PackageError(
            "MS-M105",
            f"model {owner}: {type(estimator).__name__} was fitted on numbers and texts side by side",
            hint="a ColumnTransformer says which columns each step reads",
        )
    elif used.texts:
        declared = [("texts_in", StringTensorType([None, len(used.texts)]))]
    else:
        declared = [("numbers_in", FloatTensorType([None, len(used.numbers)]))]
    options: dict[Any, Any] = {}
    if signature.output == "probability":
        options[id(mended := _mend(estimator, signature.missing_text))] = {"zipmap": False}
    else:
        mended = _mend(estimator, signature.missing_text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = convert_sklearn(
                mended, owner, declared, options=options, target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET}
            )
    except PackageError:
        raise
    except Exception as error:  # skl2onnx raises what it meets; all of it means that this cannot be packaged
        raise _refusal(estimator, owner, error) from error
    return _wrap(converted, used, signature, with_columns=with_columns)


def _columns(estimator: Any, signature: Signature, owner: str) -> Signature:
    """The columns that the estimator was fitted on, in its own order."""
    names = getattr(estimator, "feature_names_in_", None)
    by_name = {c.name: c for c in signature.inputs}
    if names is None:
        if getattr(estimator, "n_features_in_", None) == len(signature.inputs) and not signature.texts:
            return signature
        names = ["a matrix without names"]
    unknown = [str(name) for name in names if name not in by_name]
    if unknown:
        raise PackageError(
            "MS-M105",
            f"model {owner} was fitted on columns that it does not have: {', '.join(unknown[:5])}",
            why="what the function returns must be the whole path from the columns of train.X",
            hint="put the preparation into a scikit-learn Pipeline and fit that on train.X",
        )
    return Signature(tuple(by_name[name] for name in names), signature.output, signature.missing_text)


def _mend(estimator: Any, missing: str) -> Any:
    """A copy whose encoders know a missing text by the word that the graph uses for it."""
    mended = copy.deepcopy(estimator)
    for part in parts(mended):
        if type(part).__name__ in _ENCODERS and hasattr(part, "categories_"):
            part.categories_ = [_named(values, missing) for values in part.categories_]
        elif type(part).__name__ == "SimpleImputer" and getattr(part, "statistics_", np.empty(0)).dtype == np.object_:
            part.missing_values = missing
    return mended


def _named(values: Any, missing: str) -> Any:
    if values.dtype != np.object_ and values.dtype.kind != "U":
        return values
    return np.array([missing if v is None or v != v else v for v in values], dtype=np.object_)


def _refusal(estimator: Any, owner: str, error: Exception) -> PackageError:
    text = str(error)
    culprit = next((type(p).__name__ for p in parts(estimator) if type(p).__name__ in text), type(estimator).__name__)
    return PackageError(
        "MS-M101",
        f"model {owner} uses {culprit}, which cannot be packaged",
        why=" ".join(text.split())[:300],
        hint="use LightGBM on train.X as it is, or steps that skl2onnx supports",
    )


def _wrap(converted: Any, used: Signature, signature: Signature, *, with_columns: bool) -> onnx.ModelProto:
    """Feed the converted graph from the package's two matrices and take one number a row from it."""
    from onnx import TensorProto, helper, numpy_helper

    graph = converted.graph
    before: list[Any] = []
    constants = list(graph.initializer)

    def pick(source: str, places: list[int], target: str) -> None:
        constants.append(numpy_helper.from_array(np.array(places, np.int64), f"ms_places_{target}"))
        before.append(helper.make_node("Gather", [source, f"ms_places_{target}"], [target], axis=1))

    numbers, texts = signature.numbers, signature.texts
    if with_columns:
        needed = {name for node in graph.node for name in node.input}
        for column in used.inputs:
            if column.name in needed:
                source, order = ("numbers", numbers) if column.kind == "number" else ("texts", texts)
                pick(source, [order.index(column.name)], column.name)
    elif used.texts:
        pick("texts", [texts.index(name) for name in used.texts], "texts_in")
    else:
        pick("numbers", [numbers.index(name) for name in used.numbers], "numbers_in")
    after: list[Any] = []
    if signature.output == "probability":
        constants.append(numpy_helper.from_array(np.array([1], np.int64), "ms_true"))
        after.append(helper.make_node("Gather", [graph.output[1].name, "ms_true"], ["ms_of_true"], axis=1))
        last = "ms_of_true"
    else:
        last = graph.output[0].name
    constants.append(numpy_helper.from_array(np.array([-1], np.int64), "ms_flat"))
    after.append(helper.make_node("Cast", [last], ["ms_float"], to=TensorProto.FLOAT))
    after.append(helper.make_node("Reshape", ["ms_float", "ms_flat"], ["output"]))
    nodes = _needed([*before, *graph.node, *after], "output")
    read_by = {name for node in nodes for name in node.input}
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None])
    kept = [constant for constant in constants if constant.name in read_by]
    return model_of(helper.make_graph(nodes, "mainspring", inputs_of(signature), [output], kept))


def _needed(nodes: list[Any], output: str) -> list[Any]:
    """The nodes that ``output`` depends on, in order: a classifier's label is not."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _register_forests() -> None:
    """Teach skl2onnx LightGBM's estimators with our own trees: thresholds and missing values as it decides them."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    update_registered_converter(
        LGBMClassifier,
        "MainspringLgbmClassifier",
        calculate_linear_classifier_output_shapes,
        _convert_forest,
        options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]},
        overwrite=True,
    )
    update_registered_converter(
        LGBMRegressor,
        "MainspringLgbmRegressor",
        calculate_linear_regressor_output_shapes,
        _convert_forest,
        overwrite=True,
    )


def _convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx's converter protocol for LightGBM inside a pipeline."""
    from onnx import TensorProto
    from skl2onnx.common._apply_operation import apply_cast, apply_concat, apply_sub

    estimator = operator.raw_operator
    booster = estimator.booster_
    width = booster.num_feature()
    names = booster.feature_name()
    inner = Signature(tuple(InputColumn(name, "number") for name in names), "value")
    forest = read(estimator, inner)
    matrix = scope.get_unique_variable_name("matrix")
    apply_cast(scope, operator.inputs[0].full_name, matrix, container, to=TensorProto.FLOAT)
    total = scope.get_unique_variable_name("sum")
    node = ensemble(forest, {(i, None): i for i in range(width)}, matrix, total)
    node.name = scope.get_unique_operator_name("Forest")
    container.nodes.append(node)
    container.node_domain_version_pair_sets.add(("ai.onnx.ml", ML_OPSET))
    linked = scope.get_unique_variable_name("linked")
    operators = {"logistic": "Sigmoid", "exp": "Exp", "identity": "Identity"}
    container.add_node(operators[forest.link], total, linked, name=scope.get_unique_operator_name("Link"))
    if len(operator.outputs) == 1:
        container.add_node(
            "Identity", linked, operator.outputs[0].full_name, name=scope.get_unique_operator_name("Out")
        )
        return
    one, other, half = (scope.get_unique_variable_name(n) for n in ("one", "other", "half"))
    container.add_initializer(one, TensorProto.FLOAT, [1], [1.0])
    container.add_initializer(half, TensorProto.FLOAT, [1], [0.5])
    apply_sub(scope, [one, linked], other, container, broadcast=1)
    apply_concat(scope, [other, linked], operator.outputs[1].full_name, container, axis=1)
    above = scope.get_unique_variable_name("above")
    container.add_node("Greater", [linked, half], above, name=scope.get_unique_operator_name("Above"))
    flat, shape = scope.get_unique_variable_name("flat"), scope.get_unique_variable_name("shape")
    container.add_initializer(shape, TensorProto.INT64, [1], [-1])
    container.add_node("Reshape", [above, shape], flat, name=scope.get_unique_operator_name("Flat"))
    apply_cast(scope, flat, operator.outputs[0].full_name, container, to=TensorProto.INT64)
