"""Which contract may follow which, by mode."""

import pytest

from mainspring.catalog.compatibility import ANEW, breaks
from mainspring.definitions.about import described
from mainspring.definitions.values import Constraint, Field, SourceDef

AT = Field("at", "datetime")
A = Field("a", "float")
A0 = Field("a", "str")


def source(*fields, id=None, time="at", mode="backward", anew=False):
    defined = SourceDef("s", (*fields, AT), time, id, compatible=mode)
    return described(defined) | ({ANEW: True} if anew else {})


def checked(name, *args, kind="float"):
    return Field("a", kind, constraints=(Constraint(name, args),))


# what the column was, what it would be, and which modes take that
CHANGES = {
    "a new column that may be None": ((), (Field("n", "str", nullable=True),), "backward forward full"),
    "a new column with a default": ((), (Field("n", "str", default="x", has_default=True),), "backward forward full"),
    "a new column that must be there": ((), (Field("n", "str"),), "forward"),
    "a column that must be there goes": ((A,), (), "backward"),
    "a column that may be None goes": ((Field("a", "float", nullable=True),), (), "backward forward full"),
    "renamed with its alias": ((A,), (Field("b", "float", aliases=("a",)),), "backward forward full"),
    "renamed without a word": ((A,), (Field("b", "float"),), ""),
    "int becomes float": ((Field("a", "int"),), (A,), "backward"),
    "float becomes int": ((A,), (Field("a", "int"),), ""),
    "may be None from now on": ((A,), (Field("a", "float", nullable=True),), "backward"),
    "never None from now on": ((Field("a", "float", nullable=True),), (A,), "forward"),
    "a wider range": ((checked("between", 0, 5),), (checked("between", 0, 6),), "backward"),
    "a narrower range": ((checked("between", 0, 5),), (checked("between", 1, 5),), "forward"),
    "a check that was not there": ((A,), (checked("between", 1, 5),), "forward"),
    "a check that goes": ((checked("between", 1, 5),), (A,), "backward"),
    "more values": ((checked("one_of", "x", kind="str"),), (checked("one_of", "y", "x", kind="str"),), "backward"),
    "a longer text": ((checked("length", 1, 5, kind="str"),), (checked("length", 0, 9, kind="str"),), "backward"),
    "another pattern": ((checked("pattern", "a", kind="str"),), (checked("pattern", "a|b", kind="str"),), ""),
    "the order of columns": ((A, Field("n", "str")), (Field("n", "str"), A), "backward forward full"),
}


@pytest.mark.parametrize("mode", ["backward", "forward", "full"])
@pytest.mark.parametrize(("old", "new", "modes"), CHANGES.values(), ids=CHANGES)
def test_each_mode_takes_what_schema_registries_say_it_takes(old, new, modes, mode):
    found = breaks(source(*new, mode=mode), [source(*old)])
    assert (not found) == (mode in modes.split()), found


@pytest.mark.parametrize(("old", "new", "modes"), CHANGES.values(), ids=CHANGES)
def test_without_a_mode_all_goes_but_another_kind(old, new, modes):
    del modes
    other = {f.name: f.kind for f in old}
    is_other = any(other.get(f.name, f.kind) != f.kind and (other[f.name], f.kind) != ("int", "float") for f in new)
    assert bool(breaks(source(*new, mode="none"), [source(*old)])) == is_other


def test_every_earlier_version_is_asked_not_the_last_alone():
    versions = [source(Field("a", "str")), source()]
    assert breaks(source(Field("a", "float", nullable=True)), versions[1:]) == []
    (reason,) = breaks(source(Field("a", "float", nullable=True)), versions)
    assert reason.startswith("column a was str and would be float")


def test_a_version_that_was_applied_with_none_begins_anew():
    first, second = source(A), source(Field("b", "str"), anew=True)
    again = source(Field("b", "str"), Field("a", "float"))
    assert any("column b is new" in reason for reason in breaks(source(Field("b", "str")), [first]))
    assert breaks(source(Field("b", "str")), [first, second]) == []
    assert any("column a is new" in reason for reason in breaks(again, [first, second]))


def test_an_alias_stays_as_long_as_anything_is_stored_under_it():
    renamed = source(Field("b", "float", nullable=True, aliases=("a",)))
    versions = [source(A), renamed]
    (reason,) = breaks(source(Field("b", "float", nullable=True)), versions)
    assert 'column b no longer says ms.alias("a")' in reason
    (reason,) = breaks(source(Field("c", "float", nullable=True, aliases=("b",))), versions)
    assert 'column c no longer says ms.alias("a")' in reason
    assert breaks(source(Field("c", "float", nullable=True, aliases=("b", "a"))), versions) == []


def test_a_lost_column_of_the_same_kind_is_named_as_the_one_that_may_have_been_renamed():
    (reason,) = breaks(source(Field("b", "float")), [source(A, Field("n", "str"))])
    assert 'is it a renamed? then ms.alias("a")' in reason


@pytest.mark.parametrize("mode", ["backward", "forward", "full"])
def test_id_and_time_stay_what_they_are_but_may_be_renamed(mode):
    key, other = Field("k", "str"), Field("j", "str")
    assert breaks(source(key, other, id="k", mode=mode), [source(key, other, id="j")])
    assert breaks(source(Field("k", "str", aliases=("j",)), id="k", mode=mode), [source(other, id="j")]) == []


@pytest.mark.parametrize("mode", ["backward", "none"])
@pytest.mark.parametrize(
    ("was", "now"),
    [(None, "x"), ("x", "y"), ("x", None)],
)
def test_the_default_of_a_column_that_may_be_none_stays(was, now, mode):
    old, new = (Field("a", "str", nullable=True, default=d, has_default=d is not None) for d in (was, now))
    (reason,) = breaks(source(new, mode=mode), [source(old)])
    assert "its default would change" in reason


def test_a_column_that_went_comes_back_without_a_default_or_never_none():
    there = Field("a", "str", nullable=True, default="x", has_default=True)
    (reason,) = breaks(source(there), [source(), source(there), source()])
    assert "column a comes back" in reason
    assert breaks(source(there), [source(), source(there)]) == []
    assert breaks(source(Field("a", "str", default="x", has_default=True)), [source(A0), source()]) == []
