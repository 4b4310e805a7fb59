"""``kill -9`` at random moments under load, and what is left, compared by ids. Ends with code 1 if anything is amiss.

Four parts, each a share of the kills, with the drivers of the tests. *Log and lake* appends, flushes and trims. *Fold*
folds. *System* runs the real intake, worker and connector: tests/loop/crash_system.py says what must hold. *Gateway*
runs the real gateway and intake, and three clients who ask: tests/serving/crash_gateway.py.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import ROOT, Bench

from mainspring.features import OnlineStore


def system_part(bench: Bench, root: Path, kills: int, dice: random.Random) -> None:
    """Intake, worker and connector: tests/loop/crash_system.py."""
    sys.path.insert(0, str(ROOT / "tests" / "loop"))
    import crash_system  # type: ignore[import-not-found]

    left = crash_system.run(root, kills, dice)
    bench.require(f"accepted = in the log = in the lake = folded, by ids: {left.amiss}", holds=not left.amiss)
    for name, n in left.kills.items():
        bench.add(f"system: kills of {name}", n, "kills")
    bench.add("system: events in the log", left.events, "events")
    bench.add("system: acknowledged, with ids", left.acknowledged, "events")
    bench.add("system: lines of files, without ids", left.lines, "events")
    bench.add("system: posts that had to be sent again", left.sent_again, "posts")


def gateway_part(bench: Bench, root: Path, kills: int, dice: random.Random) -> None:
    """Gateway and intake: tests/serving/crash_gateway.py."""
    sys.path.insert(0, str(ROOT / "tests" / "serving"))
    import crash_gateway  # type: ignore[import-not-found]
    from rides import World  # type: ignore[import-not-found]

    with World(root) as world:
        world.live()
        left = crash_gateway.run(world, kills, dice)
    bench.require(f"answers in the log once, but for the end of a killed epoch: {left.amiss}", holds=not left.amiss)
    for name, n in left.kills.items():
        bench.add(f"gateway: kills of {name}", n, "kills")
    bench.add("gateway: answers that clients got", left.answered, "answers")
    bench.add("gateway: answers in the log", left.logged, "answers")
    bench.add("gateway: got, and lost with the memory of a killed one", left.missing, "answers")
    bench.add("gateway: for how long the oldest of these had been answered", left.oldest_s * 1e3, "ms")


# --- the tests' drivers -----------------------------------------------------------------------------------------------


def log_part(bench: Bench, root: Path, kills: int, seed: int) -> None:
    """Appends, flushes to the lake and trims: tests/events/crash_driver.py."""
    driver = ROOT / "tests" / "events" / "crash_driver.py"
    command = [sys.executable, str(driver), str(root), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bench.require(f"log and lake agree by ids after {kills} kills: {done.stderr[-2_000:]}", holds=done.returncode == 0)
    if done.returncode == 0:
        found = json.loads(done.stdout)
        for name in ("kills", "events", "acknowledged"):
            bench.add(f"log and lake: {name}", found[name], "kills" if name == "kills" else "events")


def fold_part(bench: Bench, root: Path, kills: int, dice: random.Random) -> None:
    """Folds alone: tests/features/folding_child.py, judged by the comparison with replay of its test."""
    sys.path.insert(0, str(ROOT / "tests" / "features"))
    import folding_child  # type: ignore[import-not-found]
    from test_crash import assert_is_replay  # type: ignore[import-not-found]

    records, reached, done = folding_child.stream(), 0, 0
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, str(Path(folding_child.__file__)), str(root / "state0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        while done < kills and reached < len(records) - 2_000:
            parent.stdin.write("\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            with OnlineStore.open(root / "state0", folding_child.MAP_BYTES) as store:
                store.wait_for(reached + dice.randint(1, 300), timeout_s=60.0)
            os.kill(child, signal.SIGKILL)
            parent.stdout.readline()
            with OnlineStore.open(root / "state0", folding_child.MAP_BYTES) as store:
                reached = store.folded_offset()
                assert_is_replay(folding_child, store, records)
            done += 1
        parent.stdin.close()
    bench.add("fold: kills", done, "kills")
    bench.add("fold: events folded, each compared with replay", reached, "events")


def main() -> None:
    bench = Bench.start(
        "kill -9 under load: acknowledged = stored = folded once, by ids",
        [("--kills", int, "how many"), ("--seed", int, "of the moments")],
    )
    kills, seed = bench.options.kills or (15 if bench.quick else 300), bench.options.seed or time.time_ns() % 10**6
    bench.say(f"{kills} kills, --seed {seed}")
    dice = random.Random(seed)
    shares = (kills // 2, kills // 5, kills // 6)
    shares = (*shares, kills - sum(shares))
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        roots = [Path(folder, name) for name in ("log", "fold", "system", "gateway")]
        for root in roots:
            root.mkdir()
        log_part(bench, roots[0], shares[0], seed)
        fold_part(bench, roots[1], shares[1], dice)
        system_part(bench, roots[2], shares[2], dice)
        gateway_part(bench, roots[3], shares[3], dice)
    bench.finish()


if __name__ == "__main__":
    main()
