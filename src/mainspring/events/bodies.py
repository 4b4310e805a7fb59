"""What a request of the intake brings: its bytes unpacked, split into records, each checked by the contract.

``Content-Encoding``: ``gzip`` or ``zstd``, once. A body unpacks to at most ``UNPACKED`` times what a body may be; it is
counted while it is unpacked, so that a bomb costs no more than that (413). ``Content-Type``:
``application/vnd.apache.arrow.stream`` is an Arrow IPC stream, ``application/x-ndjson`` a record a line, everything
else JSON: an object, or an array of objects.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from mainspring.core.errors import ContractError, MainspringError, TooLargeError
from mainspring.core.http import Request
from mainspring.events.arrow import arrow_batches
from mainspring.events.batch import Batch
from mainspring.events.commas import has_more
from mainspring.events.contract import Contract, Row
from mainspring.events.drafts import Draft
from mainspring.events.held import Reject
from mainspring.events.internal import Entries
from mainspring.events.quarantine import fields_json

UNPACKED = 4
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
ARROW = "application/vnd.apache.arrow.stream"
_PIECE_BYTES = 262_144
_MOST_LISTED = 1_000

_line = re.compile(rb"[^\n]+")
_breaks = re.compile(rb"\n{2,}")
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class BadRequestError(ContractError):
    """A request that cannot be read at all."""

    http_status = 400


class EncodingError(MainspringError, ValueError):
    """A body in a form that is not read here."""

    exit_code = 4
    http_status = 415


def entries_in(
    body: bytes, headers: Mapping[str, str], contract: Contract, sender: str, *, max_bytes: int, max_rows: int
) -> tuple[Entries, bool, int]:
    """The records of a body, each a checked row or on its way to quarantine.

    Returns:
        The records; whether the body as a whole could not be read (its beginning then is the one record, with the
        reason); how many bytes it unpacked to.

    Raises:
        BadRequestError: There is nothing in it (MS-E205).
        EncodingError: Its encoding is not read here (MS-E209).
        TooLargeError: Too many records (MS-E204) or bytes (MS-E208).
    """
    source = contract.source
    try:
        raw = unpacked(body, headers.get("content-encoding", ""), UNPACKED * max_bytes)
        if not raw.strip():
            raise empty_body()
        kind = kind_of(headers)
        if kind == ARROW:
            entries = arrow_entries(raw, contract, max_rows, UNPACKED * max_bytes, sender)
            if not entries:
                raise empty_body()
            return entries, False, len(raw)
        is_lines = kind in NDJSON
        _check_count(raw, max_rows, is_lines=is_lines)
        is_list = not is_lines and raw.lstrip()[:1] == b"["
        if is_list and (columns := contract.check_json_list(raw)) and columns[0]:
            rows = list(zip(*columns, strict=True))
            return Batch.of_rows(source, rows, sender, lambda: _split_array(raw)), False, len(raw)
        raws = _split(raw, is_lines=is_lines)
    except BadRequestError:
        raise
    except ContractError as error:
        return [Reject.of(source.name, body, error, version=source.version, sender=sender)], True, len(body)
    entries = entries_from(raws, contract, sender)
    is_no_json = len(entries) == 1 and isinstance(entries[0], Reject) and entries[0].code == "MS-E101"
    return entries, is_no_json, len(raw)


def kind_of(headers: Mapping[str, str]) -> str:
    """The media type that the headers say."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def entries_from(raws: Sequence[bytes | msgspec.Raw], contract: Contract, sender: str) -> Entries:
    """Records of JSON, each checked; as a batch if there are several and nothing is wrong with any."""
    if len(raws) > 1:
        try:
            rows = [contract.check_json(raw) for raw in raws]
        except ContractError:
            pass
        else:
            return Batch.of_rows(contract.source, rows, sender, lambda: raws)
    return [_entry_of(raw, contract, sender) for raw in raws]


def _entry_of(record: bytes | msgspec.Raw, contract: Contract, sender: str) -> Draft | Reject:
    """One record of JSON: a checked row, or on its way to quarantine."""
    source = contract.source
    try:
        return Draft(source, contract.check_json(record), bytes(record), False, sender)
    except ContractError as error:
        return Reject.of(source.name, bytes(record), error, version=source.version, sender=sender)


def empty_body() -> BadRequestError:
    """The error of a body without a record."""
    hint = "send a JSON object or array of objects, or an Arrow stream of at least one row"
    return BadRequestError("MS-E205", "the body is empty", where="body", hint=hint)


def sender_of(request: Request) -> str:
    """Who sent a request, for quarantine: address, program, and the name of the key that let it in."""
    program = request.headers.get("user-agent", "")[:60]
    words = (f"http {request.peer}", f"({program})" if program else "", f"key {request.key}" if request.key else "")
    return " ".join(filter(None, words))


def limit_of(text: str) -> int:
    """How many records are asked for; at most a thousand are listed.

    Raises:
        BadRequestError: It is no whole number from 1 on (MS-E214).
    """
    if not (text.isascii() and text.isdigit() and 0 < len(text.lstrip("0")) < 10):
        raise BadRequestError("MS-E214", f"limit={text[:40]!r} is no whole number from 1 on", where="query")
    return min(int(text), _MOST_LISTED)


def too_many(rows: int, max_rows: int) -> TooLargeError:
    """The error of a request with more events than are taken at once."""
    return TooLargeError("MS-E204", f"{rows} events in one request", why=f"at most {max_rows} are taken at once")


def _more_than(max_rows: int) -> TooLargeError:
    what = f"{max_rows + 1} events or more in one request"
    return TooLargeError("MS-E204", what, why=f"at most {max_rows} are taken at once")


def unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body as it was before its ``Content-Encoding``.

    Raises:
        EncodingError: It is none of gzip and zstd (MS-E209).
        ContractError: The bytes are not what they are said to be, or end early (MS-E210).
        TooLargeError: There is more in it than ``max_bytes`` (MS-E208); no more than that was unpacked.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name in ("gzip", "x-gzip"):
        return _gzip(body, max_bytes)
    if name == "zstd":
        return _zstd(body, max_bytes)
    hint = "Content-Encoding: gzip, or zstd, or none"
    raise EncodingError("MS-E209", f"a body packed with {name[:40]!r} is not read here", where="body", hint=hint)


def _gzip(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while rest:  # members may follow one another
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                part = member.decompress(rest, _PIECE_BYTES)
                rest = member.unconsumed_tail
                size += len(part)
                if size > max_bytes:
                    raise _bomb(max_bytes)
                parts.append(part)
                if not part and not rest and not member.eof:
                    raise ContractError("MS-E210", "the gzip body ends early", where="$")
            rest = member.unused_data
    except zlib.error as error:
        raise ContractError("MS-E210", f"the body is no gzip: {error}", where="$") from None
    return b"".join(parts)


def _zstd(body: bytes, max_bytes: int) -> bytes:
    import pyarrow as pa

    parts: list[bytes] = []
    size = 0
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
            while part := stream.read(_PIECE_BYTES):
                size += len(part)
                if size > max_bytes:
                    raise _bomb(max_bytes)
                parts.append(part)
    except (OSError, pa.ArrowException) as error:
        raise ContractError("MS-E210", f"the body is no zstd: {str(error)[:200]}", where="$") from None
    return b"".join(parts)


def _bomb(max_bytes: int) -> TooLargeError:
    what = f"the body unpacks to more than {max_bytes} bytes"
    return TooLargeError("MS-E208", what, where="body", hint="send it in several requests")


def arrow_entries(raw: bytes, contract: Contract, max_rows: int, max_bytes: int, sender: str) -> Entries:
    """The rows of an Arrow stream, each checked."""
    source = contract.source
    rows: list[Row] = []
    rejects: dict[int, Reject] = {}
    for columns, n in arrow_batches(raw, source, max_rows, max_bytes):
        for place, found in enumerate(contract.check_columns(columns, n)):
            if isinstance(found, ContractError):
                raw_row = fields_json(source, {name: values[place] for name, values in columns.items()})
                rejects[len(rows)] = Reject.of(source.name, raw_row, found, version=source.version, sender=sender)
                rows.append(())
            else:
                rows.append(found)
    if not rejects:
        return Batch.of_rows(source, rows, sender)
    return [rejects.get(i) or Draft(source, row, None, False, sender) for i, row in enumerate(rows)]


def lines_in(text: bytes) -> list[bytes]:
    """The lines that are not blank; blank ones cost next to nothing, however many there are."""
    if not text or text.isspace():
        return []
    if b"\n\n" in text:
        text = _breaks.sub(b"\n", text)
    return [line for line in text.split(b"\n") if line.strip()]


def _check_count(body: bytes, max_rows: int, *, is_lines: bool) -> None:
    """Refuse a body that surely holds more than ``max_rows`` events before it is split.

    Raises:
        TooLargeError: It does (MS-E204).
    """
    if is_lines:
        if body.count(b"\n") >= max_rows:
            lines = (found for found in _line.finditer(body) if not found[0].isspace())
            if sum(1 for _ in islice(lines, max_rows + 1)) > max_rows:
                raise _more_than(max_rows)
    elif body.lstrip()[:1] == b"[" and body.count(b",") >= max_rows and has_more(body, max_rows):
        raise _more_than(max_rows)


def _split(body: bytes, *, is_lines: bool) -> Sequence[bytes | msgspec.Raw]:
    """The bytes of each event in a body."""
    if is_lines:
        return lines_in(body)
    if body.lstrip()[:1] != b"[":
        return [body]
    try:
        return _split_array(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContractError("MS-E101", f"the body is no JSON: {error}", where="$") from None
    except RecursionError:
        raise ContractError("MS-E101", "the body is nested too deeply", where="$") from None
