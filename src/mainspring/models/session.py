"""A graph in ONNX Runtime: one thread, sequential."""

from __future__ import annotations

from typing import Any

from mainspring.core.errors import PackageError


def open_session(graph: bytes) -> Any:
    """The ``InferenceSession`` of a graph.

    Raises:
        PackageError: ONNX Runtime cannot load it (MS-M121).
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what fails is raised; it is not also printed
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise PackageError("MS-M121", "ONNX Runtime cannot load the model", why=str(error).splitlines()[0]) from error


def ask(session: Any, outputs: list[str], numbers: Any, texts: Any) -> list[Any]:
    """Outputs of a package's graph for the input matrices, of which it takes those that it knows.

    Raises:
        PackageError: It fails on these rows (MS-M122).
    """
    given = {"numbers": numbers, "texts": texts}
    try:
        answered: list[Any] = session.run(outputs, {one.name: given[one.name] for one in session.get_inputs()})
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise PackageError("MS-M122", "the model cannot answer these rows", why=str(error).splitlines()[0]) from error
    return answered
