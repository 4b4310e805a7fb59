"""What the benches share: rows, contenders measured in turn, a table, JSON. Run alone, it says what machine this is.

A figure is a median of rounds with its spread, (greatest - least) / median; contenders take turns within each round,
so that a busy moment of the machine falls on all of them, and a ratio is the median of the rounds' own ratios. A ratio
above 1 is in favour of the row that bears it, whatever its unit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
SMALLER_IS_BETTER = frozenset({"s", "ms", "us", "bytes"})
LIBRARIES = ("mainspring", "numpy", "polars", "duckdb", "numba", "lmdb", "onnxruntime", "lightgbm", "fastapi")


@dataclass(frozen=True)
class Row:
    """One line of a bench.

    Attributes:
        value: In ``unit``: a median when it was measured more than once.
        against: Name of the row that it is compared with, or what it is held to.
        ratio: How many times better than ``against``.
        spread: (greatest - least) / median of the rounds; in a simulation the standard error.
    """

    name: str
    value: float
    unit: str
    against: str = ""
    ratio: float | None = None
    spread: float | None = None


@dataclass
class Bench:
    """A run of one bench: its options, what it found, how it says so."""

    title: str
    quick: bool
    as_json: bool
    options: argparse.Namespace
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, title: str, options: Sequence[tuple[str, type, str]] = ()) -> Bench:
        """Read the command line.

        Args:
            title: What is measured, in a sentence.
            options: Further options: name, type, help.
        """
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
        parser.add_argument("--json", action="store_true", help="print a list of rows instead of a table")
        for name, kind, text in options:
            parser.add_argument(name, type=kind, help=text)
        found = parser.parse_args()
        return cls(title, found.quick, found.json, found)

    def say(self, text: str) -> None:
        """A remark for whoever watches; never on the standard output of ``--json``."""
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        against: str = "",
        ratio: float | None = None,
        spread: float | None = None,
    ) -> None:
        """A row that was computed elsewhere."""
        self.rows.append(Row(name, float(value), unit, against, ratio, spread))

    def compare(
        self,
        rounds: Mapping[str, Sequence[float]],
        unit: str,
        *,
        ours: str = "",
        floors: Collection[str] = (),
        scale: float | None = None,
    ) -> None:
        """Rows of contenders measured in the same rounds.

        Args:
            rounds: Measurements by contender, as long as each other.
            unit: Of the measurements, or of what ``scale`` makes of them.
            ours: Who is compared with each of the others: its row names the best of them.
            floors: Who does less than the whole work, and so is not the best of them.
            scale: Units of work in a measured second: then a measurement of s seconds is ``scale / s``.
        """
        shown = {name: [scale / s for s in found] if scale else list(found) for name, found in rounds.items()}
        others = {name: median(found) for name, found in shown.items() if name != ours and name not in floors}
        smaller = unit in SMALLER_IS_BETTER
        best = (min if smaller else max)(others, key=lambda name: others[name], default="")
        for name, found in shown.items():
            against = best if name == ours else ours
            ratio = None
            if against in shown and against != name:
                pairs = zip(found, shown[against], strict=True)
                ratio = median(b / a if smaller else a / b for a, b in pairs)
            else:
                against = ""
            self.add(name, median(found), unit, against=against, ratio=ratio, spread=spread(found))

    def require(self, text: str, *, holds: bool) -> None:
        """Something that must be so for the figures to mean anything; the bench goes on and ends with code 1."""
        if not holds:
            self.failures.append(text)
            print(f"NOT SO: {text}", file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Print what was found, and end."""
        print(json.dumps([asdict(row) for row in self.rows], indent=1) if self.as_json else table(self.rows))
        sys.exit(1 if self.failures else 0)


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Wall seconds of each contender in each round, in turns; a first round that is not counted warms them."""
    if warm:
        for run in contenders.values():
            run()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started_s = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - started_s)
    return found


def spread(found: Sequence[float]) -> float | None:
    """(Greatest - least) / median; None for a single measurement."""
    middle = median(found)
    return (max(found) - min(found)) / middle if len(found) > 1 and middle else None


def quantile(found: Sequence[float], share: float) -> float:
    """The value that ``share`` of the measurements do not exceed."""
    ranked = sorted(found)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text."""
    head = ("what", "value", "unit", "against", "ratio", "spread")
    lines = [
        (
            row.name,
            _number(row.value),
            row.unit,
            row.against,
            "" if row.ratio is None else f"{row.ratio:.3g}x",
            "" if row.spread is None else f"{row.spread:.3f}" if row.unit == "share" else f"{row.spread:.0%}",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    right = {1, 4, 5}
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [head, *lines]
    )


def machine() -> str:
    """Processor, cores, memory, load and versions: what every figure depends on."""
    model = platform.processor() or platform.machine()
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists():
        named = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    memory = f", {int(meminfo.read_text().split()[1]) / 2**20:.0f} GB" if meminfo.exists() else ""
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES if _installed(name))
    return (
        f"{model}, {os.cpu_count()} cores{memory}; load {load}\n"
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; {libraries}"
    )


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except ModuleNotFoundError:
        return False


def _number(value: float) -> str:
    size = abs(value)
    if size >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size < 1 else f"{value:.2f}"


if __name__ == "__main__":
    print(machine(), file=sys.stderr)
