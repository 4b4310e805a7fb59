"""The command ``mainspring`` in a process that writes down each compilation of numba's, its first one on purpose.

``telling_compiles.py FILE ARGUMENTS…``: a line in FILE for each.
"""

import sys
from pathlib import Path

import numba
from numba.core import event

CANARY = "canary"


class Teller(event.Listener):
    """Writes a line when a compilation begins."""

    def __init__(self, path):
        self._file = Path(path).open("a", buffering=1)  # noqa: SIM115  open until the process ends

    def on_start(self, event):
        """Say what is compiled."""
        self._file.write(f"{event.data['dispatcher'].py_func.__qualname__}\n")

    def on_end(self, event):
        """Nothing."""


if __name__ == "__main__":
    event.register("numba:compile", Teller(sys.argv.pop(1)))

    def canary(x):
        """Compiled, to show that it is told."""
        return x

    numba.njit(canary)(1)
    from mainspring.cli import main

    main()
