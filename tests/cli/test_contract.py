"""``mainspring contract``, and what becomes of a column that is renamed."""

import json

import pytest


@pytest.fixture
def no_tracking(monkeypatch):
    """The tracking store's sixty tables take seconds: other tests make them."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)


def change(project, old, new):
    text = (project / "definitions.py").read_text()
    assert old in text
    (project / "definitions.py").write_text(text.replace(old, new))


def written(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def done(number, **fields):
    return {"ride": f"r{number}", "city": "Graz", "done_at": "2024-05-01T12:00:00Z", **fields}


def test_a_renamed_column_is_sent_and_read_under_both_names(cli, project, no_tracking, tmp_path):
    cli("apply", at=project)
    change(project, "from datetime import datetime", "from datetime import datetime\nfrom typing import Annotated")
    cli("ingest", written(tmp_path / "a.jsonl", [done(1, minutes=10.0)]), "--source", "done", at=project)
    text = (project / "definitions.py").read_text()
    text = text.replace("    minutes: float\n", '    took_min: Annotated[float, ms.alias("minutes")]\n')
    (project / "definitions.py").write_text(
        text.replace('"minutes"', '"took_min"').replace('took_min")]', 'minutes")]')
    )
    shown = cli("contract", "diff", "done", at=project)
    assert (shown.code, shown.out) == (0, "done: ~ took_min (was minutes)\n")
    assert cli("apply", at=project).code == 0
    newer = [done(2, minutes=20.0), done(3, took_min=30.0)]
    loaded = cli("ingest", written(tmp_path / "b.jsonl", newer), "--source", "done", "--json", at=project)
    assert loaded.code == 0, loaded.err
    found = cli("sql", "select ride, took_min from done order by ride", "--json", at=project)
    assert "30.0" in found.out
    assert [float(row["took_min"]) for row in found.json["rows"]] == [10.0, 20.0, 30.0]


def test_a_file_is_held_against_a_contract_without_loading_it(cli, project, tmp_path):
    rows = [done(1, minutes=1.0), done(2, minutes="x"), done(3), done(4, minutes="y")]
    found = cli("contract", "check", written(tmp_path / "a.jsonl", rows), "--source", "done", "--json", at=project)
    assert (found.code, found.json["rows"], found.json["broken"]) == (4, 4, 3)
    first, second = found.json["breaches"]
    assert (first["code"], first["path"], first["rows"], first["first_line"]) == ("MS-E102", "$.minutes", 2, 2)
    assert "missing required field `minutes`" in second["reason"]
    good = cli("contract", "check", written(tmp_path / "b.jsonl", rows[:1]), "--source", "done", at=project)
    assert (good.code, good.out) == (0, "all 1 rows are as done wants them\n")


def test_versions_of_a_contract_are_compared_by_the_beginning_of_their_hash(cli, project, no_tracking):
    cli("apply", at=project)
    (first,) = [one["new"] for one in cli("contract", "diff", "done", "--json", at=project).json]
    change(project, "    minutes: float\n", "    minutes: float\n    tip: float | None\n")
    cli("apply", at=project)
    change(project, "    tip: float | None\n", "    tip: str | None\n    by: str\n")
    (found,) = cli("contract", "diff", "done", "--old", first[:5], "--json", at=project).json
    assert found["changes"] == ["+ by", "+ tip"]
    assert [reason.split(":")[0] for reason in found["breaks"]] == [
        "column by is new and has neither a default nor | None"
    ]
    refused = cli("contract", "diff", at=project)
    assert refused.code == 5
    assert "! column tip was float and would be str" in refused.out
    assert cli("contract", "diff", "done", "--old", "zz", "--json", at=project).error["code"] == "MS-C091"
    assert cli("contract", "diff", "--old", "zz", "--json", at=project).error["code"] == "MS-C090"
    assert cli("contract", "diff", "dome", "--json", at=project).error["hint"] == "did you mean 'done'?"


def test_a_contract_goes_out_as_a_schema_and_comes_back_as_a_class(cli, project, tmp_path):
    schema = tmp_path / "done.json"
    schema.write_text(cli("contract", "export", "done", at=project).out)
    made = cli("contract", "import", schema).out
    assert made.splitlines() == [
        'class Done(ms.Source, id="ride", time="done_at"):',
        '    """A ride that is over."""',
        "",
        "    ride: str",
        "    city: str",
        "    minutes: float",
        "    done_at: datetime",
    ]
    schema.write_text("{")
    assert cli("contract", "import", schema, "--json").error["code"] == "MS-E450"


def test_a_class_is_inferred_from_a_file(cli, tmp_path):
    rows = [
        {
            "order_id": f"o{i}",
            "Shop": "ab"[i % 2],
            "total": None if i == 3 else i / 2,
            "at": f"2024-05-01T12:00:{i:02}Z",
        }
        for i in range(60)
    ]
    made = cli("contract", "infer", written(tmp_path / "orders.jsonl", rows)).out
    assert made.splitlines() == [
        'class Orders(ms.Source, id="order_id", time="at"):',
        "    order_id: str",
        '    shop: Annotated[str, ms.one_of("a", "b")]',
        "    total: float | None",
        "    at: datetime",
    ]
