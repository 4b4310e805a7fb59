"""What a lane answers to: the protocol's half of a request.

The lane knows rows, models and batches; a reply knows how its client wants to hear of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from mainspring.core.errors import MainspringError, UnavailableError
from mainspring.core.http import Deferred, Response, error_response
from mainspring.serving.composed import Composition
from mainspring.serving.inference import EXPRESSION, Choice
from mainspring.serving.request import error_json
from mainspring.serving.unanimous import Unanimous

_ENCODE = msgspec.json.Encoder().encode


class _Answer(msgspec.Struct, gc=False):
    """What is told of a row that the model answered which was to."""

    prediction: float
    prediction_id: str
    model_version: str
    variant: str


class Reply(Protocol):
    """The answer to one request, filled row by row, perhaps over several batches."""

    @property
    def cancelled(self) -> bool:
        """Whether the client has gone: nobody reads the answer."""

    def rows(self, first: int, choices: Sequence[Choice], ids: Sequence[str], at: range) -> None:
        """Take the outcomes of good rows of the request, from ``first`` on.

        Args:
            first: Of them, counted within the request.
            choices: Of a whole batch, as ``ids`` are.
            ids: Of the predictions.
            at: Where these rows are in the batch.
        """

    def finish(self) -> None:
        """Every row is there: answer."""

    def fail(self, error: MainspringError) -> None:
        """There will be no rows: say why."""


class RowReply(Deferred, eq=False, kw_only=True):
    """The answer to ``POST /predict`` of one row: an object.

    Attributes:
        shows_status: Whether the answer lists the status of each feature.
        text: JSON of the answer, once it is there.
        status: Of HTTP.
    """

    shows_status: bool
    text: bytes = b""
    status: int = 200

    def rows(self, first: int, choices: Sequence[Choice], ids: Sequence[str], at: range) -> None:
        """Take the outcome of the row."""
        i = at.start
        if isinstance(choices, Unanimous) and not self.shows_status:
            self.text = _ENCODE(_Answer(choices.outputs[i], ids[i], choices.version, choices.variant))
            return
        choice = choices[i]
        self.text = _answer_json(choice, ids[i], i, shows_status=self.shows_status)
        if choice.output is None:
            self.status = _status_of_none(self.text)

    def finish(self) -> None:
        """Answer."""
        self.answer(Response(self.status, self.text))

    def fail(self, error: MainspringError) -> None:
        """Answer with an error."""
        self.answer(error_response(error))


class ListReply(Deferred, eq=False, kw_only=True):
    """The answer to ``POST /predict`` of a list: a list with bad rows in their places.

    Attributes:
        places: Where each good row's answer goes in ``answers``.
        answers: JSON of every row of the request; bad rows are answered already.
        shows_status: Whether the answer lists the status of each feature.
        failed: Rows that no model could answer.
    """

    places: Sequence[int]
    answers: list[bytes]
    shows_status: bool
    failed: int = 0

    def rows(self, first: int, choices: Sequence[Choice], ids: Sequence[str], at: range) -> None:
        """Take the outcomes of rows."""
        places = self.places[first : first + len(at)]
        if isinstance(choices, Unanimous) and not self.shows_status:
            for place, text in zip(places, _alike_json(choices, ids, at), strict=True):
                self.answers[place] = text
            return
        for place, i in zip(places, at, strict=True):
            choice = choices[i]
            self.answers[place] = _answer_json(choice, ids[i], i, shows_status=self.shows_status)
            if choice.output is None:
                self.failed += 1

    def finish(self) -> None:
        """Answer; the request as a whole failed only if each of its good rows did."""
        answers = self.answers
        status = 200 if self.failed < len(self.places) else _status_of_none(answers[self.places[0]])
        self.answer(Response(status, b"[" + b",".join(answers) + b"]"))

    def fail(self, error: MainspringError) -> None:
        """Answer with an error."""
        self.answer(error_response(error))


def failure_of(choice: Choice, id: str) -> UnavailableError:
    """Why a row has no output."""
    where = f"prediction {id}"
    if choice.error == EXPRESSION:
        return UnavailableError("MS-S106", "an expression of the model cannot be computed for this row", where=where)
    return UnavailableError("MS-S110", "no model could score this row", where=where)


def _status_of_none(answer: bytes) -> int:
    """The status of a request none of whose rows could be answered, from what the first is told."""
    return 422 if b'"MS-S106"' in answer else 503


def _answer_json(choice: Choice, id: str, at: int, *, shows_status: bool) -> bytes:
    if choice.output is None:
        return error_json(failure_of(choice, id))
    text = (
        f'{{"prediction":{_ENCODE(choice.answer).decode()},"prediction_id":"{id}",'
        f'"model_version":"{choice.version}","variant":"{choice.variant}"'
    )
    if choice.fallback is not None:
        text += f',"fallback":"{choice.fallback}"'
    if choice.error is not None:
        text += f',"reason":"{choice.error}"'
    if choice.repeats is not None:
        text += f',"cached":"{choice.repeats.id}"'
    if choice.rules:
        text += f',"rules":{msgspec.json.encode(choice.rules).decode()}'
    if choice.composition is not None:
        text += f",{_composition_json(choice.composition)}"
    if shows_status:
        return text.encode() + b',"status":' + msgspec.json.encode(_status_of(choice, at)) + b"}"
    return (text + "}").encode()


def _alike_json(choices: Unanimous, ids: Sequence[str], at: range) -> list[bytes]:
    """As ``_answer_json`` of rows that one model answered."""
    start, stop = at.start, at.stop
    outputs = _ENCODE(choices.outputs[start:stop]).decode()[1:-1].split(",")
    end = f'","model_version":"{choices.version}","variant":"{choices.variant}"}}'
    return [
        f'{{"prediction":{output},"prediction_id":"{id}{end}'.encode()
        for output, id in zip(outputs, ids[start:stop], strict=True)
    ]


def _status_of(choice: Choice, at: int) -> Mapping[str, str] | Mapping[str, Mapping[str, str]]:
    """Status by feature, of a composite by member and feature; nothing where no model was asked."""
    if choice.composition is not None:
        return choice.composition.status
    return {} if choice.inputs is None else choice.inputs.shown_status(at if choice.repeats is None else 0)


def members_json(whole: Composition) -> str:
    """What each member of a composite said, by name, as a JSON object."""
    said = {
        name: {"prediction": choice.answer, "model_version": choice.version, "variant": choice.variant}
        | ({"reason": choice.error} if choice.error is not None else {})
        for name, choice in whole.said
    }
    return msgspec.json.encode(said).decode()


def _composition_json(whole: Composition) -> str:
    member = f'"member":"{whole.member}",' if whole.member is not None else ""
    spread = f'"spread":{whole.spread!r},' if whole.spread is not None else ""
    return f'{member}{spread}"members":{members_json(whole)}'
