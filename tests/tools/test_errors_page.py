"""The page of errors says what the source raises."""

from pathlib import Path

import pytest
from errors_page import page

ERRORS = """
class MainspringError(Exception):
    exit_code = 1
    http_status = 500

class UnavailableError(MainspringError, ConnectionError):
    exit_code = 7
    http_status = 503

class BackPressureError(UnavailableError):
    http_status = 429
"""

RAISES = """
def write(size_bytes, self):
    what = f"a batch of {size_bytes} does not fit"
    if self.full:
        raise BackPressureError("MS-E101", what, hint="wait")
    raise errors.UnavailableError("MS-E102", "the log " + f"of {self.log_name} | is away: {compute(1)}")

def answer():
    return Refusal(413, "MS-E101", "too *large*")
"""


@pytest.fixture
def source(tmp_path) -> Path:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "errors.py").write_text(ERRORS)
    (tmp_path / "log.py").write_text(RAISES)
    return tmp_path


def test_a_class_inherits_what_it_does_not_say(source):
    assert "| `BackPressureError` | 7 | 429 |" in page(source).splitlines()


def test_a_code_lists_each_sentence_it_is_raised_with(source):
    rows = [line for line in page(source).splitlines() if line.startswith("| MS-E")]
    assert rows == [
        "| MS-E101 | 413, `BackPressureError` | a batch of ‹size bytes› does not fit<br>too \\*large\\* |",
        "| MS-E102 | `UnavailableError` | the log of ‹log name› \\| is away: ‹…› |",
    ]
    assert "## Events" in page(source)


def test_a_check_of_a_field_says_which(source):
    (source / "rules.py").write_text('number(bound, f"{word}= of gate", "MS-D140", where, "hint")\n')
    assert "| MS-D140 | DefinitionError | ‹word›= of gate is ‹…›, not a number |" in page(source).splitlines()


def test_a_code_without_a_room_is_refused(source):
    (source / "log.py").write_text('raise MainspringError("MS-Q001", "what")\n')
    with pytest.raises(SystemExit, match="MS-Q001"):
        page(source)
