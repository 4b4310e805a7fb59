"""The simplest model: one number for every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mainspring.models.graph import inputs_of, model_of
from mainspring.models.signature import Signature

if TYPE_CHECKING:
    import onnx


class Constant:
    """An estimator that answers ``value``: the base rate, or the mean."""

    def __init__(self, value: float) -> None:
        self.value = value

    def fit(self, X: Any, y: Any) -> Constant:
        """Nothing to learn."""
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """``value`` for each row."""
        return np.full(len(X), self.value)

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Shape (rows, 2): of False, of True."""
        return np.column_stack([1 - self.predict(X), self.predict(X)])


def constant_graph(value: float, signature: Signature) -> onnx.ModelProto:
    """A graph that answers ``value`` for each row of its inputs."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = inputs_of(signature)
    constants = [
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array([value], np.float32), "value"),
    ]
    nodes = [
        helper.make_node("Shape", [inputs[0].name], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"], axis=0),
        helper.make_node("Expand", ["value", "rows"], ["output"]),
    ]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None])
    return model_of(helper.make_graph(nodes, "mainspring", inputs, [output], constants))
