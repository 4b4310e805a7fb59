"""Sources that hypothesis draws: columns of every kind, with and without checks, defaults and earlier names."""

from datetime import datetime

from hypothesis import strategies as st

from mainspring.definitions.values import Constraint, Field, SourceDef

T_US = 1_362_139_200_000_000  # 2013-03-01 12:00 UTC
BOUNDS = {
    "str": (("one_of", ("a", "bb", "é")), ("length", (1, 2)), ("pattern", ("[a-zé]+",))),
    "int": (("between", (-3, 9)), ("between", (-(2**70), 2.5)), ("one_of", (1, 7, 2**62))),
    "float": (("between", (-1, 1.5)), ("between", (0, 2**60 + 1))),
    "datetime": (("between", (10, T_US)),),
    "bool": (),
    "vector": (),
}


@st.composite
def sources(draw):
    """A source with a column or two of every kind, some with checks, defaults and earlier names."""
    fields = []
    for kind, bounds in BOUNDS.items():
        for number in range(draw(st.integers(1, 2))):
            chosen = [Constraint(*c) for c in draw(st.lists(st.sampled_from(bounds), max_size=2))] if bounds else []
            if kind == "vector":
                chosen = [Constraint("dim", (2,))]
            nullable = draw(st.booleans())
            default, has_default = None, kind != "vector" and draw(st.booleans())
            if has_default and not (nullable and draw(st.booleans())):
                default = {"str": "zz", "int": 4, "float": 9.5, "bool": True, "datetime": datetime(2013, 3, 1)}[kind]  # noqa: DTZ001
            name = f"{kind}_{number}"
            aliases = (f"old_{name}",) if draw(st.booleans()) else ()
            fields.append(Field(name, kind, nullable, tuple(chosen), default, has_default, aliases))
    return SourceDef("s", (*fields, Field("at", "datetime")), time="at")
