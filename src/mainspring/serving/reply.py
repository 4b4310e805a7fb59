"""What a lane answers to: the protocol's half of a request.

The lane knows rows, models and batches; a reply knows how its client wants to hear of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from mainspring.core.errors import ContractError, MainspringError, UnavailableError
from mainspring.core.http import Deferred, Response, error_response
from mainspring.core.ids import PredictionIds
from mainspring.events.system import EXPRESSION
from mainspring.serving.composed import Composition
from mainspring.serving.inference import NOT_LOADED, Choice
from mainspring.serving.request import error_json
from mainspring.serving.unanimous import Unanimous

_LATER = (("Retry-After", str(UnavailableError.retry_after_s)),)
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

    def rows(self, first: int, choices: Sequence[Choice], ids: PredictionIds, at: range) -> None:
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

    def rows(self, first: int, choices: Sequence[Choice], ids: PredictionIds, at: range) -> None:
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
        self.answer(_response(self.status, self.text))

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
        text: JSON of the answers of all rows, where one model answered them at once.
    """

    places: Sequence[int]
    answers: list[bytes]
    shows_status: bool
    failed: int = 0
    text: bytes = b""

    def rows(self, first: int, choices: Sequence[Choice], ids: PredictionIds, at: range) -> None:
        """Take the outcomes of rows."""
        alike = choices if isinstance(choices, Unanimous) and not self.shows_status else None
        if alike is not None and len(at) == len(self.answers):
            self.text = _alike_json(alike, ids, at, ",")
            return
        places = self.places[first : first + len(at)]
        if alike is not None:
            for place, text in zip(places, _alike_json(alike, ids, at, "\n").split(b"\n"), strict=True):
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
        self.answer(_response(status, b"[" + (self.text or b",".join(answers)) + b"]"))

    def fail(self, error: MainspringError) -> None:
        """Answer with an error."""
        self.answer(error_response(error))


def failure_of(choice: Choice, id: str) -> MainspringError:
    """Why a row has no output."""
    where = f"prediction {id}"
    if choice.error == EXPRESSION:
        return ContractError("MS-S106", "an expression of the model cannot be computed for this row", where=where)
    if choice.error == NOT_LOADED:
        what = "no version of this model could be loaded (GET /health says why), and no value is declared for this row"
        return UnavailableError("MS-S125", what, where=where)
    return UnavailableError("MS-S110", "no model could score this row", where=where)


def _status_of_none(answer: bytes) -> int:
    """The status of a request none of whose rows could be answered, from what the first is told."""
    return 422 if b'"MS-S106"' in answer else 503


def _response(status: int, text: bytes) -> Response:
    """An answer; one that nobody could give may be there soon."""
    return Response(status, text) if status != 503 else Response(status, text, headers=_LATER)


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


def _alike_json(choices: Unanimous, ids: PredictionIds, at: range, between: str) -> bytes:
    """As ``_answer_json`` of rows that one model answered, one after the other with ``between`` between them.

    Numbers are written and pieces put together in a few calls for all rows: a call a row costs more than the text.
    """
    start, stop = at.start, at.stop
    first = '{"prediction":'
    last = f'","model_version":"{choices.version}","variant":"{choices.variant}"}}'
    pieces = ["", f',"prediction_id":"{ids.epoch}-', "", last + between + first] * len(at)
    pieces[::4] = _ENCODE(choices.outputs[start:stop]).decode()[1:-1].split(",")
    pieces[2::4] = _ENCODE(list(ids.numbers[start:stop])).decode()[1:-1].split(",")
    pieces[-1] = last
    return (first + "".join(pieces)).encode()


def _status_of(choice: Choice, at: int) -> Mapping[str, str] | Mapping[str, Mapping[str, str]]:
    """Status by feature, of a composite by member and feature; nothing where no model was asked."""
    if choice.composition is not None:
        return choice.composition.status
    return {} if choice.inputs is None else choice.inputs.shown_status(at if choice.repeats is None else 0)


def members_json(whole: Composition) -> str:
    """What each member of a composite said, by name, as a JSON object; the words are those of a model's own answer."""
    said = {
        name: {"prediction": choice.answer, "model_version": choice.version, "variant": choice.variant}
        | ({"fallback": choice.fallback} if choice.fallback is not None else {})
        | ({"reason": choice.error} if choice.error is not None else {})
        | ({"rules": choice.rules} if choice.rules else {})
        | {"counted": name in whole.counted}
        for name, choice in whole.said
    }
    return msgspec.json.encode(said).decode()


def _composition_json(whole: Composition) -> str:
    member = f'"member":"{whole.member}",' if whole.member is not None else ""
    spread = f'"spread":{whole.spread!r},' if whole.spread is not None else ""
    return f'{member}{spread}"members":{members_json(whole)}'
