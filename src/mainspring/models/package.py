"""A packaged model: a folder of ONNX and JSON with checksums, named by its content. No pickle."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mainspring.core.errors import FormatError, PackageError
from mainspring.core.ids import content_hash
from mainspring.core.numbers import array, floats
from mainspring.definitions import Feature, ModelDef
from mainspring.models.runtime import Runtime
from mainspring.models.signature import Floats, Signature, Texts, kind_of

FORMAT = 1
MANIFEST = "MANIFEST"
MODEL, BASELINE, SIGNATURE, META, EXAMPLES = (
    "model.onnx",
    "baseline.onnx",
    "signature.json",
    "meta.json",
    "examples.json",
)
_CONTENT = (MODEL, BASELINE, SIGNATURE, EXAMPLES)
_FILES = (*_CONTENT, META)
_EXAMPLE_TOLERANCE = 1e-4
"""Other processors round the sums of a graph differently; a damaged or mismatched model is off by far more."""
LIBRARIES = ("lightgbm", "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "pandas", "polars", "numba")


class PackagedFeature(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a column of the model comes from: a value of a view, an expression (JSON), or a column of the request.

    Attributes:
        feature: The value's short name in its view: ``spent_7d``, ``last_amounts_1``.
        expression: Over columns of the request, ``_moment`` and ``view__feature`` of the package's own views.
    """

    name: str
    kind: str
    view: str = ""
    view_version: str = ""
    feature: str = ""
    column: str = ""
    expression: str = ""


class GateResult(msgspec.Struct, frozen=True):
    """One gate with the numbers that decided it.

    Attributes:
        value: The candidate's metric on the rows compared.
        bound: What it was compared with; None when there was nothing to compare with.
    """

    gate: str
    metric: str
    passed: bool
    value: float | None = None
    bound: float | None = None
    note: str = ""


class Meta(msgspec.Struct, frozen=True):
    """Where a package comes from. Times are int64 microseconds since 1970 UTC.

    Attributes:
        definition_version: Content hash of the model's definition.
        views: Name and version of each feature view with its whole definition.
        dataset: Content hash of the training set.
        trained_from_us: Moment of the first row that the packaged fit saw.
        trained_until_us: Moment of the last row that the packaged fit saw.
        known_until_us: Up to when labels were known to the packaged fit.
        refitted: Whether the packaged fit saw all rows after the evaluation, rather than the training split alone.
        metrics: Metrics on the test split, of the fit on the training split; of the baseline as ``baseline_…``.
    """

    model: str
    task: str
    definition_version: str
    features: tuple[PackagedFeature, ...]
    views: tuple[dict[str, Any], ...]
    label: dict[str, Any]
    dataset: str
    dataset_rows: int
    trained_rows: int
    trained_from_us: int
    trained_until_us: int
    known_until_us: int
    created_at_us: int
    refitted: bool
    seed: int
    estimator: str
    baseline: str
    metrics: dict[str, float]
    gates: tuple[GateResult, ...]
    check: dict[str, Any]
    libraries: dict[str, str]
    format: int = FORMAT


class _Signatures(msgspec.Struct, frozen=True):
    model: Signature
    baseline: Signature


class _Examples(msgspec.Struct, frozen=True):
    """Recorded inputs and outputs; of numbers NaN is null, and an infinite one its text."""

    numbers: list[list[float | str | None]]
    texts: list[list[str]]
    outputs: list[float | str | None]


class _Manifest(msgspec.Struct, frozen=True):
    format: int
    version: str
    files: dict[str, str]


@dataclass(frozen=True, eq=False)
class Package:
    """A verified package in memory.

    Attributes:
        version: Content hash of graphs, signature, examples, definition and training set: 12 digits.
    """

    path: Path
    version: str
    signature: Signature
    baseline_signature: Signature
    meta: Meta
    _files: dict[str, bytes] = field(repr=False)

    @cached_property
    def runtime(self) -> Runtime:
        """The model, loaded once."""
        return Runtime(self._files[MODEL], self.signature)

    @cached_property
    def baseline(self) -> Runtime:
        """The baseline that this model is measured against, loaded once."""
        return Runtime(self._files[BASELINE], self.baseline_signature)

    def verify_examples(self) -> None:
        """Answer the recorded examples again; also warms the session up.

        Raises:
            PackageError: Another answer than recorded (MS-M132).
        """
        examples = msgspec.json.decode(self._files[EXAMPLES], type=_Examples)
        numbers = np.array([floats(row) for row in examples.numbers], np.float32)
        texts = np.array(examples.texts, np.object_).reshape(len(examples.outputs), len(self.signature.texts))
        out = self.runtime.predict_matrix(numbers.reshape(len(examples.outputs), -1), texts)
        expected = floats(examples.outputs)
        scale = max(1.0, float(np.max(np.abs(expected), where=np.isfinite(expected), initial=0.0)))
        if not np.allclose(out, expected, rtol=0, atol=_EXAMPLE_TOLERANCE * scale, equal_nan=True):
            with np.errstate(invalid="ignore"):  # of two infinite numbers
                why = f"differs by {np.nanmax(np.abs(out - expected), initial=0.0):.2g}"
            raise PackageError(
                "MS-M132", "the model does not answer its recorded examples as recorded", where=str(self.path), why=why
            )


def features_of(model: ModelDef) -> tuple[PackagedFeature, ...]:
    """Where each of the model's columns comes from, in order."""
    return tuple(_packaged(feature) for feature in model.features)


def _packaged(feature: Feature) -> PackagedFeature:
    kind = kind_of(feature)
    if feature.view is not None and feature.aggregate is not None:
        slot = feature.name.removeprefix(f"{feature.view.name}__")
        return PackagedFeature(feature.name, kind, feature.view.name, feature.view.version, slot)
    if feature.expression is not None:
        return PackagedFeature(feature.name, kind, expression=feature.expression.json)
    return PackagedFeature(feature.name, kind, column=feature.name)


def libraries() -> dict[str, str]:
    """Versions of what a package depends on."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in LIBRARIES}


def write(
    root: Path,
    meta: Meta,
    graphs: tuple[bytes, bytes],
    signatures: tuple[Signature, Signature],
    examples: tuple[Floats, Texts],
) -> Package:
    """Write ``root/<model>/<version>`` and load it back; a package with that content is left as it is.

    Args:
        root: Folder of all packages.
        meta: Where it comes from.
        graphs: ONNX of the model and of the baseline.
        signatures: Of the model and of the baseline.
        examples: Input matrices of the model to record outputs for.
    """
    outputs = Runtime(graphs[0], signatures[0]).predict_matrix(*examples)
    recorded = _Examples([array(row) for row in examples[0]], examples[1].tolist(), array(outputs))
    files = {
        MODEL: graphs[0],
        BASELINE: graphs[1],
        SIGNATURE: _json(_Signatures(*signatures)),
        EXAMPLES: _json(recorded),
        META: _json(meta),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    version = _version(sums, meta)
    final = root / meta.model / version
    if not final.exists():
        files[MANIFEST] = _json(_Manifest(FORMAT, version, sums))
        _write_folder(final, files)
    return load(final)


def _version(sums: dict[str, str], meta: Meta) -> str:
    return content_hash([*(sums[name] for name in _CONTENT), meta.model, meta.definition_version, meta.dataset])


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)


def _write_folder(final: Path, files: dict[str, bytes]) -> None:
    """All or nothing: a folder beside it is filled, synced and renamed."""
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, content in files.items():
        with (draft / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    try:
        draft.rename(final)
    except OSError:  # another process packaged the same content first
        shutil.rmtree(draft)
        if not final.exists():
            raise


def load(path: Path) -> Package:
    """Read a package; what is returned is what was checked, not what may be in the folder later.

    Raises:
        PackageError: No package there (MS-M130), or a file is not what the manifest says (MS-M131).
        FormatError: Written by a later release (MS-M133).
    """
    hint = "train again, or restore the folder from a backup"
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=_Manifest)
        files = {name: (path / name).read_bytes() for name in _FILES}
    except FileNotFoundError as error:
        raise PackageError(
            "MS-M130", "no model package", where=str(path), why=f"{error.filename} is missing", hint=hint
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PackageError(
            "MS-M131", "the package's manifest cannot be read", where=str(path), why=str(error), hint=hint
        ) from None
    if manifest.format != FORMAT:
        raise FormatError("MS-M133", f"package format {manifest.format} is not known to this release", where=str(path))
    for name, content in files.items():
        if manifest.files.get(name) != hashlib.sha256(content).hexdigest():
            why = "its checksum is not the one in the manifest"
            raise PackageError(
                "MS-M131", f"{name} of the package has changed", where=str(path / name), why=why, hint=hint
            )
    meta = msgspec.json.decode(files[META], type=Meta)
    if manifest.version != _version(manifest.files, meta):
        raise PackageError("MS-M131", "the package's version is not that of its content", where=str(path), hint=hint)
    both = msgspec.json.decode(files[SIGNATURE], type=_Signatures)
    return Package(path, manifest.version, both.model, both.baseline, meta, files)
