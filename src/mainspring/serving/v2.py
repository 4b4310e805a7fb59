"""The Open Inference Protocol V2 without a transport: what a model takes and gives, tensors in, tensors out.

Inputs are the fields of the request's source. A text is BYTES, a whole number INT64, a number FP64, a truth BOOL, a
moment INT64 microseconds since 1970 UTC (its ISO 8601 text in BYTES is taken as well), a vector FP64 [rows, dim]. A
narrower type of the same kind is taken and widened exactly. What may be left out of plain JSON may be left out here,
and is null or its default for every row; a null within a column can only be said in JSON.

Both transports, REST (``v2_rest``) and gRPC (``grpc_server``), go through ``enter`` to the same lane as plain JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from mainspring.core.errors import MainspringError, NotFoundError
from mainspring.core.ids import PredictionIds
from mainspring.core.names import did_you_mean
from mainspring.definitions import SourceDef
from mainspring.definitions.values import Field, Kind
from mainspring.serving.inference import Choice
from mainspring.serving.lane import Lane
from mainspring.serving.reply import failure_of, members_json
from mainspring.serving.table import Floats
from mainspring.serving.unanimous import Unanimous
from mainspring.serving.v2_tensors import FLOATS, INTEGERS, ProtocolError, Tensor, malformed

EXTENSIONS = ("binary_tensor_data", "statistics", "model_configuration")
PLATFORM = "mainspring_onnx"
OUTPUTS = {
    "prediction": "FP64",
    "prediction_id": "BYTES",
    "model_version": "BYTES",
    "variant": "BYTES",
    "fallback": "BYTES",
    "reason": "BYTES",
    "rules": "BYTES",
    "member": "BYTES",
    "members": "BYTES",
    "spread": "FP64",
    "cached": "BYTES",
    "error": "BYTES",
}
"""Datatype of every output; those that are not always there are answered when asked for, or when a row has one."""
ALWAYS = ("prediction", "prediction_id", "model_version", "variant")
_DATATYPE: Mapping[Kind, str] = {
    "str": "BYTES",
    "int": "INT64",
    "float": "FP64",
    "bool": "BOOL",
    "datetime": "INT64",
    "vector": "FP64",
}
_TAKEN: Mapping[Kind, Collection[str]] = {
    "str": {"BYTES"},
    "int": INTEGERS,
    "float": INTEGERS | FLOATS,
    "bool": {"BOOL"},
    "datetime": {"INT64", "UINT64", "BYTES"},
    "vector": INTEGERS | FLOATS,
}
_UNSUPPORTED = ("sequence_id", "shared_memory_region", "classification")


class Models(Protocol):
    """The models that a gateway serves."""

    @property
    def is_ready(self) -> bool:
        """Whether routes are loaded and the gateway is not stopping."""

    @property
    def lanes(self) -> Mapping[str, Lane]:
        """The lane of each model."""

    def lane(self, name: str) -> Lane:
        """The lane of one model.

        Raises:
            NotFoundError: There is none (MS-S109).
            UnavailableError: Nothing is loaded yet (MS-S108).
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """One inference request, whatever carried it.

    Attributes:
        version: The version that the client wants to answer; empty for whichever the route says.
        inputs: As sent.
        outputs: Names of the wanted ones; empty for all that are always there.
        deadline_s: How long the answer is wanted, seconds after it was received; the lane's own limit when None.
    """

    version: str
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()
    deadline_s: float | None = None


@dataclass(slots=True)
class Outcome:
    """What became of each row: one list an output of ``OUTPUTS``; NaN and an error's code where nobody could answer."""

    prediction: list[float] = field(default_factory=list)
    prediction_id: list[str] = field(default_factory=list)
    model_version: list[str] = field(default_factory=list)
    variant: list[str] = field(default_factory=list)
    fallback: list[str] = field(default_factory=list)
    reason: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    member: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    error: list[str] = field(default_factory=list)

    def add(self, choice: Choice, id: str, error: str) -> None:
        """Add a row; ``error`` is why nobody could answer it, or empty."""
        output, whole = choice.answer, choice.composition
        self.prediction.append(float("nan") if output is None else output)
        self.prediction_id.append(id)
        self.model_version.append(choice.version)
        self.variant.append(choice.variant)
        self.fallback.append(choice.fallback or "")
        self.reason.append(choice.error or "" if output is not None else "")
        self.rules.append("; ".join(choice.rules))
        self.member.append((whole.member or "") if whole is not None else "")
        self.members.append(members_json(whole) if whole is not None else "")
        self.spread.append(float("nan") if whole is None or whole.spread is None else whole.spread)
        self.cached.append(choice.repeats.id if choice.repeats is not None else "")
        self.error.append(error)

    def add_alike(self, choices: Unanimous, ids: PredictionIds, at: range) -> None:
        """As ``add``, of rows of a batch that one model answered."""
        n = len(at)
        self.prediction += choices.outputs[at.start : at.stop]
        self.prediction_id += ids[at.start : at.stop]
        self.model_version += [choices.version] * n
        self.variant += [choices.variant] * n
        self.spread += [float("nan")] * n
        for silent in (self.fallback, self.reason, self.rules, self.member, self.members, self.cached, self.error):
            silent.extend([""] * n)

    def in_order(self, places: Sequence[int]) -> Outcome:
        """The rows by their place in the request, where they came in another order."""
        if list(places) == list(range(len(places))):
            return self
        order = sorted(range(len(places)), key=places.__getitem__)
        return Outcome(**{name: [getattr(self, name)[i] for i in order] for name in OUTPUTS})

    def tensors(self, wanted: Sequence[str]) -> list[Tensor]:
        """The outputs by name, or those that are always there and those that have something to say."""
        names = wanted or [name for name in OUTPUTS if name in ALWAYS or _says(OUTPUTS[name], getattr(self, name))]
        return [Tensor(name, OUTPUTS[name], (len(self.prediction),), getattr(self, name)) for name in names]

    @property
    def version(self) -> str:
        """The version that answered, or nothing when it was not one and the same for all rows."""
        return self.model_version[0] if len(set(self.model_version)) == 1 else ""


def _says(datatype: str, values: Sequence[Any]) -> bool:
    """Whether any row has something to say: a text, or a number that is one."""
    return any(values) if datatype == "BYTES" else not all(map(isnan, values))


Told = Callable[["Outcome | MainspringError"], None]


class Waiting(Protocol):
    """A client that waits, as its transport sees it."""

    @property
    def cancelled(self) -> bool:
        """Whether it has gone."""


class V2Reply:
    """The answer to one request, told once: its outcome, or why there is none.

    Args:
        tell: What is told.
        waiting: The client.
    """

    __slots__ = ("_failure", "_is_told", "_outcome", "_places", "_tell", "_waiting")

    def __init__(self, tell: Told, waiting: Waiting) -> None:
        self._tell = tell
        self._waiting = waiting
        self._is_told = False
        self._outcome = Outcome()
        self._places: list[int] = []
        self._failure: MainspringError | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the client has gone."""
        return self._waiting.cancelled

    def rows(self, first: int, choices: Sequence[Choice], ids: PredictionIds, at: range) -> None:
        """Take the outcomes of rows; what is known already comes first."""
        self._places += range(first, first + len(at))
        if isinstance(choices, Unanimous):
            self._outcome.add_alike(choices, ids, at)
            return
        for i in at:
            choice = choices[i]
            error = None if choice.output is not None else failure_of(choice, ids[i])
            self._failure = error or self._failure
            self._outcome.add(choice, ids[i], "" if error is None else error.code)

    def finish(self) -> None:
        """Tell the outcome; if no row could be answered, why."""
        if self._failure is not None and all(self._outcome.error):
            self.fail(self._failure)
        elif not self._is_told:
            self._tell(self._outcome.in_order(self._places))
            self._is_told = True  # not before: if the outcome cannot be told, the failure is

    def fail(self, error: MainspringError) -> None:
        """Tell why there is no outcome."""
        if not self._is_told:
            self._is_told = True
            self._tell(error)


# --- what a model takes ----------------------------------------------------------------------------------------------


def inputs_of(source: SourceDef) -> list[Tensor]:
    """The inputs of a model as metadata: -1 rows, no values."""
    return [Tensor(f.name, _DATATYPE[f.kind], (-1, f.dim) if f.kind == "vector" else (-1,), ()) for f in source.fields]


def outputs_of() -> list[Tensor]:
    """The outputs of every model as metadata."""
    return [Tensor(name, datatype, (-1,), ()) for name, datatype in OUTPUTS.items()]


def must_be_sent(source: SourceDef) -> list[Field]:
    """The fields without which there is no request; the time may be left to the clock."""
    return [f for f in source.fields if not (f.nullable or f.has_default or f.name == source.time)]


def check_version(lane: Lane, version: str) -> None:
    """Refuse a version that is not loaded.

    Raises:
        NotFoundError: It is not (MS-S142).
    """
    known = lane.served.versions
    if version and version not in known:
        name = lane.served.model.name
        hint = "loaded: " + (", ".join(known) or "none")
        raise NotFoundError("MS-S142", f"version {version[:100]!r} of {name} is not loaded", hint=hint)


# --- the way in ------------------------------------------------------------------------------------------------------


def enter(lane: Lane, asked: Asked, tell: Told, waiting: Waiting) -> None:
    """Check a request against the model's contract and queue its rows, as plain JSON does.

    Args:
        lane: Of the model.
        asked: The request.
        tell: Called once, on the event loop, perhaps before this returns.
        waiting: The client; once it has gone its rows are left out.

    Raises:
        MainspringError: The request is refused as a whole: no row of it is scored.
    """
    received_s = perf_counter()
    try:
        _check_answerer(lane, asked.version)
        _check_outputs(asked.outputs)
        columns, rows = _columns(lane.served.model.request, asked.inputs)
        checked, times_us = lane.requests.check(columns, rows)
    except MainspringError as error:
        lane.refuse(error)
        raise
    reply = V2Reply(tell, waiting)
    if checked:
        lane.submit(checked, times_us, reply, received_s, asked.deadline_s)
    else:
        reply.finish()


def timeout_s(parameters: Mapping[str, Any]) -> float | None:
    """The deadline of a request's ``timeout``, which is in microseconds; 0 means the lane's own.

    Raises:
        ProtocolError: It is no whole number of microseconds (MS-S140).
    """
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise malformed("parameter 'timeout' is a whole number of microseconds")
    return timeout / 1e6 if timeout else None


def check_parameters(parameters: Mapping[str, Any], where: str) -> None:
    """Refuse what would change the answer and is not done here; other parameters are the client's own.

    Raises:
        ProtocolError: Sequences, shared memory or classification are asked for (MS-S144).
    """
    for name in _UNSUPPORTED:
        if parameters.get(name):
            raise ProtocolError("MS-S144", f"parameter {name!r} of {where} asks for what this server does not do")


def _check_answerer(lane: Lane, version: str) -> None:
    """A version asked for by name must be the one that answers, not one that the route may replace by another."""
    if not version:
        return
    check_version(lane, version)
    served = lane.served
    answering = served.answering
    if answering != [version]:
        raise ProtocolError(
            "MS-S143",
            f"version {version!r} does not answer every request of {served.model.name}",
            why="the route decides which version answers: " + " and ".join(answering),
            hint="ask without a version; the output model_version says which one answered",
        )


def _check_outputs(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise malformed("an output is asked for twice")
    for name in names:
        if name not in OUTPUTS:
            raise ProtocolError("MS-S141", f"there is no output {name[:100]!r}", hint=did_you_mean(name[:100], OUTPUTS))


def _columns(source: SourceDef, inputs: Sequence[Tensor]) -> tuple[dict[str, list[Any] | Floats], int]:
    """Values by field, and how many rows there are."""
    fields = source.names
    columns: dict[str, list[Any] | Floats] = {}
    rows: int | None = None
    for tensor in inputs:
        known = fields.get(tensor.name)
        if known is None:
            hint = did_you_mean(tensor.name[:100], fields)
            raise ProtocolError("MS-S141", f"there is no input {tensor.name[:100]!r}", hint=hint)
        if tensor.name in columns:
            raise malformed(f"input {tensor.name!r} is there twice")
        columns[tensor.name] = _column(known, tensor)
        if rows is None:
            rows = tensor.shape[0]
        elif tensor.shape[0] != rows:
            raise malformed(f"input {tensor.name!r} has {tensor.shape[0]} rows, {inputs[0].name!r} has {rows}")
    if rows is None:
        raise malformed("there are no inputs")
    return columns, rows


def _column(known: Field, tensor: Tensor) -> list[Any] | Floats:
    """One value a row; an array of floats if it came as an array."""
    if tensor.datatype not in _TAKEN[known.kind]:
        wanted = _DATATYPE[known.kind]
        raise ProtocolError("MS-S141", f"input {known.name!r} is {wanted}, got {tensor.datatype[:16]!r}")
    shape, values = tensor.shape, tensor.values
    if known.kind != "vector" and len(shape) > 1 and any(size != 1 for size in shape[1:]):
        raise ProtocolError("MS-S141", f"input {known.name!r} has the shape [rows] or [rows, 1], got {list(shape)}")
    if isinstance(values, np.ndarray) and known.kind == "float":
        return values.astype(np.float64, copy=False)
    values = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if known.kind != "vector":
        return values
    if shape[1:] != (known.dim,):
        raise ProtocolError("MS-S141", f"input {known.name!r} has the shape [rows, {known.dim}], got {list(shape)}")
    parts = [values[at : at + known.dim] for at in range(0, len(values), known.dim)]
    return [None if all(value is None for value in part) else part for part in parts]
