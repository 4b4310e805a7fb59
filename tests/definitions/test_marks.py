"""What is said of sources and columns besides the contract, and under which names a column is known."""

from datetime import datetime
from typing import Annotated

import pytest

import mainspring as ms
from mainspring.core.errors import DefinitionError
from mainspring.definitions import Project, load_project


class Paid(
    ms.Source,
    id="payment_id",
    time="paid_at",
    owner="payments@example.org",
    tags=["money"],
    consumers={"finance": ["amount_eur"], "audit": []},
):
    """A payment at a till."""

    payment_id: str
    amount_eur: Annotated[
        float, ms.between(0, 10), ms.alias("amount", "sum"), ms.describe("What was paid.", unit="EUR", tags="price")
    ]
    email: Annotated[str | None, ms.pii("email"), ms.describe("Of the payer.")]
    till: Annotated[str | None, ms.deprecated("send shop")]
    paid_at: datetime


SOURCE = Paid.definition


def test_marks_are_known_of_the_column_and_the_source():
    columns = {name: field.about for name, field in SOURCE.columns.items()}
    assert (columns["amount_eur"].unit, columns["amount_eur"].tags) == ("EUR", ("price",))
    assert (columns["email"].pii, columns["email"].doc) == ("email", "Of the payer.")
    assert columns["till"].deprecated == "send shop"
    assert SOURCE.about.consumers == (("finance", ("amount_eur",)), ("audit", ()))


def test_a_column_is_found_and_placed_by_each_of_its_names():
    assert SOURCE.columns["amount_eur"].aliases == ("amount", "sum")
    assert {SOURCE.names[name].name for name in ("amount_eur", "amount", "sum")} == {"amount_eur"}
    assert {SOURCE.places[name] for name in ("amount_eur", "amount", "sum")} == {1}
    assert "amount" not in SOURCE.columns


def test_what_is_said_is_described_beside_the_contract_and_changes_no_version():
    class Silent(ms.Source, id="payment_id", time="paid_at", name="paid"):
        payment_id: str
        amount_eur: Annotated[float, ms.between(0, 10), ms.alias("amount", "sum")]
        email: str | None
        till: str | None
        paid_at: datetime

    assert Silent.definition.version == SOURCE.version
    (described,) = Project({"paid": SOURCE}, {}, {}).describe()["sources"].values()
    assert described["about"] == {
        "owner": "payments@example.org",
        "tags": ["money"],
        "consumers": {"finance": ["amount_eur"], "audit": []},
        "columns": {
            "amount_eur": {"doc": "What was paid.", "unit": "EUR", "tags": ["price"]},
            "email": {"doc": "Of the payer.", "pii": "email"},
            "till": {"deprecated": "send shop"},
        },
    }
    (plain,) = Project({"paid": Silent.definition}, {}, {}).describe()["sources"].values()
    assert "about" not in plain


def test_a_view_stays_as_it_is_when_columns_that_it_does_not_read_change():
    def view(amount, *more):
        namespace = {"__annotations__": {"card": str, "amount": amount, "at": datetime}, "__module__": __name__}
        namespace["__annotations__"] |= dict(more)
        source = type("Paid", (ms.Source,), namespace, time="at")
        return ms.feature_view(source, entity="card")(type("Card", (), {"spent": ms.sum("amount", window="1d")}))

    before = view(float)
    assert view(float, ("shop", str | None)).version == before.version
    assert view(Annotated[float, ms.between(0, 1)]).version == before.version
    assert view(float | None).version == before.version
    assert view(int).version != before.version
    assert view(Annotated[float, ms.alias("sum")]).version != before.version


@pytest.mark.parametrize(
    ("head", "column", "what", "hint"),
    [
        ('time="at"', 'Annotated[str, ms.alias("Old Name")]', "alias('Old Name') is no name for a column", ""),
        ('time="at"', 'Annotated[str, ms.deprecated("use m")]', "ride.n is deprecated and must be sent", "| None"),
        ('time="at"', 'Annotated[str, ms.pii("emial")]', "Ride.n: pii('emial') is not known", "did you mean 'email'?"),
        ('time="at"', 'Annotated[str, ms.describe("")]', "a mark of Ride.n says nothing", ""),
        (
            'time="at", compatible="backwards"',
            "str",
            "compatible='backwards' of ride is no mode",
            "did you mean 'backward'?",
        ),
        ('time="at", tags=[1]', "str", "tags= of ride are words", ""),
        (
            'time="at", consumers={"bi": ["att"]}',
            "str",
            "consumers= of ride names 'att', which is no column",
            "did you mean 'at'?",
        ),
        ('time="at", consumers={"bi": "at"}', "str", "consumers= of ride has 'bi': 'at'", 'consumers=["finance"]'),
    ],
)
def test_a_mark_that_cannot_be_is_refused_at_the_source(tmp_path, head, column, what, hint):
    path = tmp_path / "definitions.py"
    path.write_text(
        "from datetime import datetime\nfrom typing import Annotated\nimport mainspring as ms\n"
        f"class Ride(ms.Source, {head}):\n    at: datetime\n    n: {column}\n"
    )
    with pytest.raises(DefinitionError) as caught:
        load_project(path)
    assert (caught.value.code, caught.value.where) == ("MS-D116", f"{path}:4")
    assert what in caught.value.what
    assert hint in caught.value.hint
