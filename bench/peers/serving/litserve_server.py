"""LitServe: the graph behind its batching. ``GRAPH`` names the graph, ``WORKERS`` how many processes score."""

import os
import sys

import litserve
import numpy as np
import onnxruntime


class Graph(litserve.LitAPI):
    """One float32 matrix in, one number a row out; requests of several rows are one matrix in a batch."""

    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, list[list[float]]]) -> np.ndarray:
        return np.array(request["numbers"], np.float32)

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        return inputs

    def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        out = self._session.run(["output"], {"numbers": np.concatenate(inputs)})[0]
        return np.split(out, np.cumsum([len(one) for one in inputs])[:-1])

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        return output

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"prediction": output.tolist()}


if __name__ == "__main__":
    api = Graph(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(os.environ["WORKERS"]), timeout=30
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
