"""The walk over a page's blocks does what its own page says."""

import os
from pathlib import Path

import pytest
from blocks import PageError, blocks, missing_line, walk

GOOD = """
# Page

```bash
name=world
mkdir place
```

```python title="place/hello.py"
import sys

print("hello", sys.argv[1])
print("it took 1.234 s")
```

```console
$ cd place
$ python hello.py $name
hello   world
it took ... s
$ python hello.py \\
>     again
...
it took 1.234 s
```

<!-- no-run: there is no such command -->
```bash
no_such_command
```
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "a walk"
    folder.mkdir()
    return folder


def test_blocks_carry_their_place_title_and_reason():
    found = blocks(GOOD, "page.md")
    assert [(block.place, block.language) for block in found] == [
        ("page.md:4", "bash"),
        ("page.md:9", "python"),
        ("page.md:16", "console"),
        ("page.md:28", "bash"),
    ]
    assert found[1].title == "place/hello.py"
    assert found[3].no_run == "there is no such command"


def test_an_indented_block_is_dedented():
    assert blocks("1. item\n\n    ```python\n    if x:\n        y\n    ```\n", "page.md")[0].text == "if x:\n    y\n"


def test_a_page_is_walked_in_one_shell_and_one_folder(folder):
    assert len(walk(GOOD, "page.md", folder)) == 5
    assert (folder / "place" / "hello.py").read_text().startswith("import sys\n\nprint")


def test_a_failing_command_names_its_place_and_shows_what_it_printed(folder):
    page = "```bash\ntrue\n```\n\n```bash\necho before\nfalse\necho after\n```\n"
    with pytest.raises(PageError, match=r"page\.md:5: exit code 1") as caught:
        walk(page, "page.md", folder)
    assert caught.value.args[0].endswith("before\n")


def test_a_line_that_is_not_printed_fails_the_page(folder):
    with pytest.raises(PageError, match="does not print 'two'"):
        walk("```console\n$ printf 'one\\nthree\\n'\none\ntwo\n```\n", "page.md", folder)


def test_a_command_that_never_ends_fails_the_page_and_is_ended(folder):
    page = "```bash\necho $$ > pid\nsleep 1000\n```\n"
    with pytest.raises(PageError, match="not done after 1 s"):
        walk(page, "page.md", folder, timeout_s=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```bash\nls\n", "never closed"),
        ("```bash no-run: later\nls\n```\n", "on the line before"),
        ("<!-- no-run -->\n```bash\nls\n```\n", "needs its reason"),
    ],
)
def test_a_malformed_page_is_refused(page, complaint):
    with pytest.raises(PageError, match=complaint):
        blocks(page, "page.md")


@pytest.mark.parametrize(
    ("expected", "printed", "missing"),
    [
        (("a", "c"), "a\nb\nc", None),
        (("c", "a"), "a\nb\nc", "a"),
        (("took ... s",), "took 0.2 s", None),
        (("took … s",), "took 0.2 ms", "took … s"),
        (("...", "x  y"), "noise\n\x1b[32mx y\x1b[0m", None),
        (("a.c",), "abc", "a.c"),
        (("... end", "start ..."), "end\nstart", None),
    ],
)
def test_printed_lines_are_compared_leniently(expected, printed, missing):
    assert missing_line(expected, printed) == missing
