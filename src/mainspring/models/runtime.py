"""A package's graph in ONNX Runtime: one thread, sequential, numbers and texts in, one float a row out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import PackageError
from mainspring.models.signature import Columns, Floats, Signature, Texts

_CHUNK = 4_096
"""Rows in one run: keeps a text-heavy model's lookup columns in the cache."""


class Runtime:
    """A loaded model. Threads may share it.

    Args:
        graph: Bytes of the ONNX model.
        signature: What it takes.
    """

    def __init__(self, graph: bytes, signature: Signature) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what fails is raised; it is not also printed
        self.signature = signature
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise PackageError(
                "MS-M121", "ONNX Runtime cannot load the model", why=str(error).splitlines()[0]
            ) from error
        self._inputs = {one.name for one in self._session.get_inputs()}

    def predict(self, columns: Columns) -> npt.NDArray[np.float64]:
        """Outputs, shape (rows,): the probability of True, or the value.

        Args:
            columns: Values by column name: numbers with NaN or None for missing, texts with None for missing. Columns
                that the model does not read are ignored.

        Raises:
            PackageError: A column is not there (MS-M120).
        """
        return self.predict_matrix(self.signature.numbers_matrix(columns), self.signature.texts_matrix(columns))

    def predict_matrix(self, numbers: Floats, texts: Texts) -> npt.NDArray[np.float64]:
        """Outputs, shape (rows,), from the input matrices themselves.

        Args:
            numbers: float32 of shape (rows, signature.numbers), NaN for missing.
            texts: Strings of shape (rows, signature.texts), ``signature.missing_text`` for missing.
        """
        rows = max(len(numbers), len(texts))
        if rows <= _CHUNK:
            return self._run(numbers, texts)
        parts = [self._run(numbers[i : i + _CHUNK], texts[i : i + _CHUNK]) for i in range(0, rows, _CHUNK)]
        return np.concatenate(parts)

    def _run(self, numbers: Floats, texts: Texts) -> npt.NDArray[np.float64]:
        feed: dict[str, Any] = {}
        if "numbers" in self._inputs:
            feed["numbers"] = numbers
        if "texts" in self._inputs:
            feed["texts"] = texts
        try:
            out: npt.NDArray[np.float64] = self._session.run(["output"], feed)[0].astype(np.float64)
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise PackageError(
                "MS-M122", "the model cannot answer these rows", why=str(error).splitlines()[0]
            ) from error
        return out
