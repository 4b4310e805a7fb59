"""The whole loop, seven weeks of it, through real processes: what `mainspring demo --quick` shows has to hold."""

import io
import re
import socket
from pathlib import Path

import pytest
from rich.console import Console

from mainspring.demo.findings import Findings
from mainspring.demo.places import MARK, prepare_folder
from mainspring.demo.run import REPORT, run_demo

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def shown() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory, shown: io.StringIO) -> Findings:
    folder = tmp_path_factory.mktemp("demo") / "project"
    return run_demo(folder, quick=True, keep=False, console=Console(file=shown, width=160))


def test_every_request_is_answered(findings: Findings) -> None:
    assert findings.account.failed_requests == 0
    assert findings.account.predictions == sum(findings.predictions.values()) > 30_000


def test_sent_is_accepted_and_quarantined_and_duplicate(findings: Findings) -> None:
    assert findings.account.balances
    assert findings.account.duplicate["arrived"] > 0


def test_nothing_is_lost_and_nothing_is_there_twice_by_ids(findings: Findings) -> None:
    assert [(r.source, r.lost, r.twice, r.strange) for r in findings.reconciliations] == [
        (r.source, 0, 0, 0) for r in findings.reconciliations
    ]
    assert {r.source for r in findings.reconciliations} == {"scheduled", "departed", "arrived", "weather"}


def test_the_broken_feed_is_quarantined_mended_and_its_neighbours_are_unharmed(findings: Findings) -> None:
    account = findings.account
    assert account.quarantined["arrived"] == account.mended > 500
    assert account.quarantined["departed"] == account.quarantined["weather"] == 0
    (incident,) = [i for i in findings.incidents if i.kind == "contract"]
    assert incident.source == "arrived"
    assert incident.closed_us is not None


def test_checks_look_at_every_day_and_say_nothing_of_good_ones_nor_of_the_day_that_waits_in_quarantine(
    findings: Findings,
) -> None:
    looked = [d for d in findings.decisions if d.kind == "checks"]
    assert len({d.at_us for d in looked}) > 100
    assert [i.reason for i in findings.incidents if i.kind == "check"] == []


def test_the_corrupted_release_is_rolled_back_on_evidence(findings: Findings) -> None:
    (forced,) = [r for r in findings.rollouts if r.forced]
    assert forced.challenger == findings.demo.corrupted_version
    assert forced.state == "rolled_back"
    (text,) = [text for _, kind, text in findings.demo.happenings if kind == "corrupted"]
    assert "a changed feature view (dest)" in text
    assert forced.evidence["log_loss.rollback_e"] >= forced.evidence["rollback.needed_e"]


def test_a_model_that_trained_by_itself_is_promoted_on_evidence(findings: Findings) -> None:
    promoted = [r for r in findings.rollouts if r.state == "promoted" and r.champion is not None]
    assert promoted
    assert promoted[0].evidence["log_loss.upper_bound"] < 0.02
    assert any(d.kind == "retrain" and d.actor == "controller" for d in findings.decisions)


def test_served_features_are_exactly_those_of_a_replay(findings: Findings) -> None:
    assert findings.parity.predictions > 200
    assert findings.parity.different == 0
    assert findings.parity.exact + findings.parity.within_tolerance == findings.parity.values > 5_000


def test_the_served_model_beats_the_static_one_every_month(findings: Findings) -> None:
    for month in findings.months:
        served, static = month.roc_auc["served"], month.roc_auc["static"]
        assert served is not None
        assert static is not None
        assert served > static + 0.03, month


def test_the_report_is_one_self_contained_page(findings: Findings) -> None:
    page = (findings.demo.folder / REPORT).read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert not re.search(r"(src|href)=\"https?:", page)
    assert findings.demo.corrupted_version in page


def test_the_terminal_tells_what_happened(findings: Findings, shown: io.StringIO) -> None:
    text = shown.getvalue()
    assert "wall time" in text
    assert f"report: {findings.demo.folder / REPORT}" in text.replace("\n", "")


def test_no_process_and_no_port_is_left_behind(findings: Findings) -> None:
    command_lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command_lines.append(path.read_bytes())
        except OSError:  # ended meanwhile
            continue
    assert not [line for line in command_lines if str(findings.demo.folder).encode() in line]
    assert not list((findings.demo.config.run).glob("gateway.json"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PermissionError, match="not the demo's"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_second_run_starts_clean(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    prepare_folder(folder)
    (folder / "left.txt").touch()
    prepare_folder(folder)
    assert not (folder / "left.txt").exists()
    assert (folder / MARK).exists()
