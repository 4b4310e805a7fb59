"""Packaged models: the whole path from raw columns as ONNX with signature and checksums, and its runtime."""

from mainspring.models.check import CheckReport, check_outputs
from mainspring.models.constant import Constant, constant_graph
from mainspring.models.convert import check_estimator, convert
from mainspring.models.frames import estimate, to_frame
from mainspring.models.package import GateResult, Meta, Package, PackagedFeature, features_of, libraries, load, write
from mainspring.models.runtime import Runtime
from mainspring.models.signature import MISSING_TEXT, InputColumn, Signature, signature_of

__all__ = [
    "MISSING_TEXT",
    "CheckReport",
    "Constant",
    "GateResult",
    "InputColumn",
    "Meta",
    "Package",
    "PackagedFeature",
    "Runtime",
    "Signature",
    "check_estimator",
    "check_outputs",
    "constant_graph",
    "convert",
    "estimate",
    "features_of",
    "libraries",
    "load",
    "signature_of",
    "to_frame",
    "write",
]
