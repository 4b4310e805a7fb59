"""Formulas of mends: what they say is computed, everything else is refused before it is run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import ConfigError, ContractError
from mainspring.events.formulas import condition, formula

RECORD = {"n": 90, "x": 1.5, "unit": "s", "carrier": " United ", "none": None, "flag": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n / 60", 1.5),
        ("n // 60 + n % 60 - 1", 30),
        ("-x * 2", -3.0),
        ("n / 60 if unit == 's' else n", 1.5),
        ("replace(strip(carrier), 'United', 'UA')", "UA"),
        ("upper(unit) + '!'", "S!"),
        ("none + 1", None),
        ("none == 1", None),
        ("lower(none)", None),
        ("coalesce(none, n, 1)", 90),
        ("coalesce(none)", None),
        ("round(x * 1.11, 1)", 1.7),
        ("int('7') + float('0.5')", 7.5),
        ("not flag or n > 10 and x <= 1.5", True),
        ("'const'", "const"),
        ("None", None),
    ],
)
def test_a_formula_is_computed_over_the_fields_of_a_record(text, value):
    assert formula(text)(RECORD) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x')",
        "x.real",
        "carrier[0]",
        "[n]",
        "{'a': 1}",
        "lambda: 1",
        "n ** n",
        "f'{n}'",
        "1 < n < 3",
        "(y := 3)",
        "b'bytes'",
        "abs()",
        "abs(n, n)",
        "replace('a', 'b')",
        "coalesce()",
        "int(n, base=3)",
        "n; n",
        "",
        "(" * 400,
        "n +" * 200 + "n",
        "n\0",
    ],
)
def test_what_lies_beyond_the_subset_is_refused_before_it_is_run(text):
    with pytest.raises(ConfigError, match="MS-E137"):
        formula(text)


@pytest.mark.parametrize(
    "text",
    ["missing + 1", "n / 0", "carrier * 9", "'%d' % n", "unit + n", "int(carrier)", "abs(unit)", "replace(unit, 1, 2)"],
)
def test_what_cannot_be_computed_for_a_record_says_so(text):
    with pytest.raises(ContractError, match="MS-E136"):
        formula(text)(RECORD)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n > 60", True),
        ("flag", True),
        ("True", True),
        ("not (flag and n > 60)", False),
        ("coalesce(none == 1, flag)", True),
        ("flag if n > 60 else unit == 's'", True),
        ("none == 1", None),
    ],
)
def test_a_condition_is_a_comparison_a_flag_or_made_of_these(text, value):
    assert condition(text, ["flag"])(RECORD) == value


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("n", "n"),
        ("unit", "unit"),
        ("1", "1"),
        ("None", "None"),
        ("n - 60", "n - 60"),
        ("n > 60 and x", "x"),
        ("not n", "n"),
        ("coalesce(none == 1, 0)", "0"),
        ("flag if n else flag", "n"),
        ("lower(unit)", "lower(unit)"),
    ],
)
def test_what_is_neither_true_nor_false_is_no_condition(text, wrong):
    with pytest.raises(ConfigError, match="MS-E138") as caught:
        condition(text, ["flag"])
    assert caught.value.what.startswith(repr(wrong))


def test_neither_texts_nor_numbers_grow_without_end():
    with pytest.raises(ContractError, match="too long"):
        formula("+".join(["c"] * 200))({"c": "x" * 1_000})
    with pytest.raises(ContractError, match="too large"):
        formula("*".join(["c"] * 200))({"c": 2**63})


@given(st.text(max_size=60) | st.text("nx()+-*/'\" .,<>=if elsandort0123", max_size=60))
def test_no_text_whatever_it_is_does_anything_but_compute_or_refuse(text):
    try:
        value = formula(text)(RECORD)
    except (ConfigError, ContractError):
        return
    assert value is None or isinstance(value, (str, int, float, bool))
