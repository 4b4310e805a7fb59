"""A package's graph, loaded: numbers and texts in, one float a row out."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import numpy.typing as npt

from mainspring.models.session import ask, open_session
from mainspring.models.signature import Columns, Floats, Signature, Texts

_CHUNK = 4_096
"""Rows in one run: keeps a text-heavy model's lookup columns in the cache."""


class Runtime:
    """A loaded model: compiled trees where its graph is nothing else, ONNX Runtime for the rest. Threads may share it.

    Args:
        graph: Bytes of the ONNX model.
        signature: What it takes.

    Raises:
        PackageError: ONNX Runtime cannot load it (MS-M121).
    """

    def __init__(self, graph: bytes, signature: Signature) -> None:
        from mainspring.models.oracle import adopted

        self.signature = signature
        self._trees = adopted(graph, signature)
        self._session = open_session(graph) if self._trees is None else None

    @staticmethod
    def warm_up() -> None:
        """Load, or compile, what evaluates trees: the first model would otherwise wait for it."""
        import_module("mainspring.models.oracle")
        import_module("onnx")

    @property
    def is_compiled(self) -> bool:
        """Whether it is evaluated by compiled code, not by ONNX Runtime."""
        return self._trees is not None

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

        Raises:
            PackageError: The model cannot answer such rows (MS-M122).
        """
        rows = max(len(numbers), len(texts))
        if rows <= _CHUNK:
            return self._run(numbers, texts)
        parts = [self._run(numbers[i : i + _CHUNK], texts[i : i + _CHUNK]) for i in range(0, rows, _CHUNK)]
        return np.concatenate(parts)

    def _run(self, numbers: Floats, texts: Texts) -> npt.NDArray[np.float64]:
        if self._trees is not None:
            return self._trees.predict(numbers, texts)
        out: npt.NDArray[np.float64] = ask(self._session, ["output"], numbers, texts)[0].astype(np.float64)
        return out
