"""Errors say what, where, why and what to do, and each kind has its exit code and HTTP status."""

import pytest

from mainspring.core import errors

KINDS = {
    "MainspringError": (1, 500, Exception),
    "DefinitionError": (3, 400, ValueError),
    "UsageError": (2, 400, ValueError),
    "ConfigError": (3, 400, ValueError),
    "ContractError": (4, 422, ValueError),
    "RefusedError": (5, 403, PermissionError),
    "NotFoundError": (6, 404, LookupError),
    "UnavailableError": (7, 503, ConnectionError),
    "DeadlineError": (7, 504, TimeoutError),
    "BackPressureError": (7, 429, ConnectionError),
    "TooLargeError": (4, 413, ValueError),
    "FormatError": (8, 500, ValueError),
    "PackageError": (9, 500, ValueError),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_keeps_its_exit_code_its_status_and_its_builtin(name):
    kind = getattr(errors, name)
    assert (kind.exit_code, kind.http_status) == KINDS[name][:2]
    assert issubclass(kind, KINDS[name][2])
    assert issubclass(kind, errors.MainspringError)


def test_every_kind_is_listed_here():
    found = {n for n, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.MainspringError)}
    assert found == set(KINDS)


def test_the_text_has_each_part_on_a_line_of_its_own():
    error = errors.RefusedError("MS-X001", "no", where="here", why="because", hint="ask")
    assert str(error) == "MS-X001: no\n  at: here\n  why: because\n  try: ask"
    assert error.to_dict() == {"code": "MS-X001", "error": "no", "where": "here", "why": "because", "hint": "ask"}


def test_parts_that_are_not_known_are_left_out():
    error = errors.NotFoundError("MS-X001", "no")
    assert str(error) == "MS-X001: no"
    assert error.to_dict() == {"code": "MS-X001", "error": "no"}
