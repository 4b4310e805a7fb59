"""How what runs for each row is compiled: eagerly, with declared signatures, into a cache that survives the process.

A signature that is not declared would compile in the middle of a request, about ten seconds long (read-only arrays are
another type, for instance). Never ``fastmath``: the error-free transformations of ``exact`` depend on IEEE order.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
import numba.core.config
from numba import types
from numba.extending import intrinsic

_ROOMS = Path(__file__).parent.parent
_IMPORT = re.compile(r"^from mainspring\.features(?:\.(\w+))? import (.*)", re.MULTILINE)


@cache
def sources_of(module: str) -> frozenset[str]:
    """The modules whose text makes what the kernels of ``module`` are: itself and what it imports of this room.

    Args:
        module: Its name behind ``mainspring.``, as ``features.kernels`` is.
    """
    found, todo = set(), {module, "features.compiled"}
    while todo:
        name = todo.pop()
        found.add(name)
        for within, names in _IMPORT.findall(_file_of(name).read_text()):
            todo |= {f"features.{n}" for n in ([within] if within else [n.split()[0] for n in names.split(",")])}
        todo -= found
    return frozenset(found)


def _file_of(module: str) -> Path:
    return _ROOMS.joinpath(*module.split(".")).with_suffix(".py")


@cache
def cache_folder(module: str) -> Path:
    """Folder of the compiled functions of one module, named by the content of all that they are made of.

    ``NUMBA_CACHE_DIR`` is respected if set. The content hash is there because numba looks only at the file of the
    outermost function: a change in an inlined one, or in a constant, of another file would go unseen.
    """
    content = b"".join(_file_of(name).read_bytes() for name in sorted(sources_of(module)))
    said = os.environ.get("NUMBA_CACHE_DIR")
    base = Path(said) if said else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring"
    return base / f"mainspring-{module}-{hashlib.sha256(content).hexdigest()[:12]}"


OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "fastmath": False, "error_model": "numpy"}
DISPATCHERS: Final[list[Any]] = []


def compiled(signature: str, *, allocates: bool = True) -> Any:
    """Decorator: compile now, for ``signature`` alone, from the cache if it is there.

    Args:
        signature: Types of the arguments and of what is returned.
        allocates: Whether arrays are made within. A kernel that says no counts no references to its arguments, not even
            in calls and slices: counts are atomic, so threads on the same arrays would wait for each other.
    """

    def compile_now(function: Any) -> Any:
        folder = cache_folder(".".join(Path(function.__code__.co_filename).with_suffix("").relative_to(_ROOMS).parts))
        settings: Any = numba.core.config
        settings.CACHE_DIR = str(folder)  # read when the dispatcher is made
        make: Any = numba.njit
        with _alone(folder):
            dispatcher = make(signature, **OPTIONS, _nrt=allocates)(function)
        dispatcher.disable_compile()  # another type is a TypeError at once, not a compilation in a request
        DISPATCHERS.append(dispatcher)
        return dispatcher

    return compile_now


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: worker and gateway start together, and what one compiled the other finds in the cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # a folder that cannot be written: each compiles for itself
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@intrinsic
def fused(context: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001  as numba calls it
    """``a · b + c`` with one rounding: an instruction of every processor since 2013, else the C library's ``fma``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), build
