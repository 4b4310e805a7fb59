"""Text of users is shown, never obeyed."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.cli import terminal
from mainspring.cli.options import Options


@given(st.text() | st.binary())
def test_nothing_that_a_terminal_could_act_on_is_left(value):
    shown = terminal.safe(value)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_ordinary_text_is_left_as_it_is(text):
    assert terminal.safe(text) == text


def test_bytes_that_are_no_text_are_shown_as_escapes():
    assert terminal.safe(b"a\xff\x1bb") == "a\\xff\\x1bb"


def test_lines_stay_lines_only_when_asked():
    assert terminal.safe("a\nb\tc") == "a\\nb\\tc"
    assert terminal.safe("a\nb\tc", lines=True) == "a\nb\\tc"


def test_an_override_of_direction_is_shown(capsys):
    terminal.answer(Options(), None, terminal.text("a\u202eb"))
    assert capsys.readouterr().out == "a\\u202eb\n"


def test_markup_in_a_cell_is_text(capsys):
    terminal.answer(Options(), None, terminal.table(("x",), [("[bold]no[/bold] \x1b[31m",)]))
    assert "[bold]no[/bold] \\x1b[31m" in capsys.readouterr().out


def test_a_long_text_is_cut():
    assert terminal.short("x" * 200, 10) == "x" * 9 + "…"
    assert terminal.short("short", 10) == "short"


def test_json_knows_no_infinity_so_that_it_is_a_text(capsys):
    found = {"served": None, "replayed": float("inf"), "more": [(float("nan"), 1.5)]}
    terminal.answer(Options(json=True), found)
    told = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert told == {"served": None, "replayed": "inf", "more": [["nan", 1.5]]}
