"""What the README and the pages show is run: definitions load, commands exist, the quickstart is walked."""

import re
import shutil
from pathlib import Path

import pytest
from blocks import Block, blocks, steps, walk

from mainspring.cli.app import run
from mainspring.definitions import load_project

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WALKED = [page for page in PAGES if page.name == "quickstart.md"]


def shown_blocks(language: str) -> list[Block]:
    """The runnable blocks of one language on every page that is not walked."""
    found = []
    for page in PAGES:
        if page not in WALKED:
            name = str(page.relative_to(ROOT))
            found += [
                block for block in blocks(page.read_text(), name) if block.language == language and not block.no_run
            ]
    return found


DEFINITIONS = [block for block in shown_blocks("python") if "import mainspring as ms" in block.text]


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in DEFINITIONS])
def test_a_definitions_block_loads_and_is_valid(block: Block, tmp_path):
    path = tmp_path / "definitions.py"
    path.write_text(block.text)
    project = load_project(path)
    assert project.sources


def test_the_readme_shows_definitions_with_a_model(tmp_path):
    readme = [block for block in DEFINITIONS if block.place.startswith("README.md")]
    assert len(readme) == 1
    path = tmp_path / "definitions.py"
    path.write_text(readme[0].text)
    assert load_project(path).models


def test_every_make_task_that_a_page_names_exists():
    tasks = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^|\$ )make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= tasks, f"{page.relative_to(ROOT)} names make tasks that are not there: {sorted(named - tasks)}"


def test_the_plan_of_the_quickstart_prints_the_lines_that_it_shows_and_no_other(tmp_path, capsys):
    found = blocks((ROOT / "docs" / "quickstart.md").read_text(), "quickstart.md")
    (definitions,) = (block for block in found if block.title == "definitions.py")
    (shown,) = (step.expected for step in steps(found) if step.command == "mainspring plan")
    (tmp_path / "definitions.py").write_text(definitions.text)
    (tmp_path / "mainspring.toml").write_text('[project]\nname = "parcels"\n')
    capsys.readouterr()
    assert run(["plan", "-C", str(tmp_path)]) == 0
    assert tuple(capsys.readouterr().out.splitlines()) == shown


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(shutil.which("curl") is None, reason="the page asks its reader to have curl")
@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in WALKED])
def test_a_reader_who_walks_the_page_gets_what_it_says(page: Path, tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    assert walk(page.read_text(), page.name, folder)
