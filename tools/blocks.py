"""Code blocks of Markdown pages, and a walk that runs a page as a reader would: from the top, in one folder and shell.

What a fence means on a page that is walked (docs/quickstart.md):

    ```python title="definitions.py"    the reader saves this file; any language, any relative path
    ```bash                             the reader runs these lines, and none may fail
    ```console                          lines after `$ ` are run; the lines between are what they print
    ```python                           the reader runs it with the environment's Python
    any other language                  shown only

Printed lines are compared leniently: each must appear, in order, white space aside; `...` stands for anything.
A block that cannot run says why in a comment on the line before it: <!-- no-run: needs a Kafka broker -->
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)(?P<info>.*)$")
_NO_RUN = re.compile(r"<!--\s*no-run(?::\s*(?P<reason>.*?))?\s*-->")
_TITLE = re.compile(r'title="([^"]+)"')
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class PageError(Exception):
    """A page does not do what it says."""


@dataclass(frozen=True)
class Block:
    """A fenced block; ``place`` is ``page:line`` of its first line."""

    place: str
    language: str
    text: str
    title: str | None = None
    no_run: str | None = None


@dataclass(frozen=True)
class Step:
    """A command of a walk and the lines it is expected to print."""

    place: str
    command: str
    expected: tuple[str, ...] = ()


def blocks(page: str, name: str) -> list[Block]:
    """The fenced blocks of a page.

    Raises:
        PageError: A fence is never closed, or `no-run` has no reason or stands where sites would not render it.
    """
    found: list[Block] = []
    lines = page.splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        place = f"{name}:{number + 1}"
        closing = opening["indent"] + opening["ticks"]
        end = next((i for i in range(number + 1, len(lines)) if lines[i].rstrip() == closing), None)
        if end is None:
            raise PageError(f"{place}: this fence is never closed")
        if "no-run" in opening["info"]:
            raise PageError(f"{place}: say it on the line before the fence: <!-- no-run: reason -->")
        text = textwrap.dedent("\n".join(lines[number + 1 : end])) + "\n"
        title = _TITLE.search(opening["info"])
        found.append(
            Block(place, opening["language"], text, title[1] if title else None, _no_run(lines, number, place))
        )
        number = end + 1
    return found


def _no_run(lines: list[str], number: int, place: str) -> str | None:
    """The reason in the comment before a fence, if there is one."""
    marked = _NO_RUN.search(lines[number - 1]) if number else None
    if marked is None:
        return None
    if not marked["reason"]:
        raise PageError(f"{place}: no-run needs its reason: <!-- no-run: reason -->")
    return str(marked["reason"])


def steps(found: list[Block]) -> Iterator[Step]:
    """What a reader does with a page's blocks, one after another."""
    for block in found:
        if block.no_run:
            continue
        if block.title:
            target = shlex.quote(block.title)
            command = f"mkdir -p \"$(dirname {target})\" && printf '%s' {shlex.quote(block.text)} > {target}"
            yield Step(block.place, command)
        elif block.language in {"bash", "sh"}:
            yield Step(block.place, block.text)
        elif block.language == "console":
            yield from _console(block)
        elif block.language == "python":
            yield Step(block.place, f"python -c {shlex.quote(block.text)}")


def _console(block: Block) -> Iterator[Step]:
    command: list[str] = []
    expected: list[str] = []
    continued = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield Step(block.place, "\n".join(command), tuple(expected))
            command, expected = [line[2:]], []
        elif continued:
            command.append(line.removeprefix("> "))
        else:
            expected.append(line)
        continued = (line.startswith("$ ") or continued) and line.endswith("\\")
    if not command:
        raise PageError(f"{block.place}: a console block without a line that starts with `$ `")
    yield Step(block.place, "\n".join(command), tuple(expected))


def missing_line(expected: tuple[str, ...], printed: str) -> str | None:
    """The first expected line that is not printed after the ones before it; None when all are."""
    actual = iter([" ".join(_ANSI.sub("", line).split()) for line in printed.splitlines()])
    for line in expected:
        words = " ".join(line.split())
        if not words.strip(".… "):
            continue
        pattern = re.compile(" ?" + ".*".join(re.escape(part) for part in re.split(r"\.{3}|…", words)) + " ?")
        if not any(pattern.fullmatch(f" {candidate} ") for candidate in actual):
            return line
    return None


def walk(page: str, name: str, folder: Path, timeout_s: float = 300.0) -> list[Step]:
    """Run a page's blocks in order in one bash shell, in a folder; answers with the steps that ran.

    Raises:
        PageError: A command fails or takes too long, or does not print what the page says; the message has its output.
    """
    done = list(steps(blocks(page, name)))
    mark = "\x1e"
    script = ["set -euo pipefail"]
    for index, step in enumerate(done):
        script += [f"printf '\\n\\036%d\\n' {index}", step.command]
    printed = _run("\n".join(script), folder, timeout_s)
    outputs = dict(enumerate(part.partition("\n")[2] for part in printed.output.split(mark)[1:]))
    last = len(outputs) - 1
    for index, step in enumerate(done):
        output = outputs.get(index, "")
        if printed.code != 0 and index == last:
            raise PageError(f"{step.place}: {printed.said}\n  $ {step.command.strip()}\n{output}")
        line = missing_line(step.expected, output)
        if line is not None:
            raise PageError(f"{step.place}: `{step.command}` does not print {line!r} but:\n{output}")
    return done


@dataclass(frozen=True)
class _Printed:
    output: str
    code: int
    said: str


def _run(script: str, folder: Path, timeout_s: float) -> _Printed:
    """Run a script in a session of its own, and end whatever it leaves behind."""
    bin_folder = str(Path(sys.executable).parent)
    plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "PYTHONUNBUFFERED": "1"}
    environment = {**os.environ, **plain, "PATH": bin_folder + os.pathsep + os.environ["PATH"]}
    log = folder.with_name(folder.name + ".log")
    with log.open("wb") as stream:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(timeout_s)
            said = f"exit code {code}"
        except subprocess.TimeoutExpired:
            code, said = 124, f"not done after {timeout_s:.0f} s"
        finally:
            _end(shell)
    return _Printed(log.read_text(encoding="utf-8", errors="replace"), code, said)


def _end(shell: subprocess.Popen[bytes]) -> None:
    """End the shell's session: what a page leaves running must not outlive its walk."""
    with contextlib.suppress(ProcessLookupError):  # nothing was left
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
