"""MLflow: the graph as a model of its ONNX flavour, saved where it is told first; then ``mlflow`` with what follows.

``GRAPH`` names the graph.
"""

import os
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

FLOAT = np.dtype(np.float32)
signature = ModelSignature(
    Schema([TensorSpec(FLOAT, (-1, 30), "numbers")]), Schema([TensorSpec(FLOAT, (-1,), "output")])
)
mlflow.onnx.save_model(onnx.load(os.environ["GRAPH"]), sys.argv[1], signature=signature)
script = str(Path(sys.executable).with_name("mlflow"))
os.execv(sys.executable, [sys.executable, script, *sys.argv[2:]])  # noqa: S606  the server, in this process's place
