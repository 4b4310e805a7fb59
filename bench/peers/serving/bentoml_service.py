"""BentoML: the graph behind its adaptive batching. ``GRAPH`` names the graph, ``WORKERS`` how many processes."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=int(os.environ["WORKERS"]), traffic={"timeout": 30}, metrics={"enabled": False})
class Graph:
    """One float32 matrix in, one number a row out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=3_200, max_latency_ms=10_000)
    def predict(self, numbers: np.ndarray) -> np.ndarray:
        return self._session.run(["output"], {"numbers": numbers.astype(np.float32)})[0]
