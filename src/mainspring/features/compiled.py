"""How the fold's functions are compiled: eagerly, with declared signatures, into a cache that survives the process.

A signature that is not declared would compile in the middle of a request, about ten seconds long (read-only arrays are
another type, for instance). Never ``fastmath``: the error-free transformations of ``exact`` depend on IEEE order.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

_TAG = "mainspring-"


def cache_folder() -> Path:
    """Folder of compiled functions, one per content of this package.

    ``NUMBA_CACHE_DIR`` is respected if set. The content hash is part of the path because numba looks only at the file
    of the outermost function: a change in an inlined one, in another file, would go unseen.
    """
    sources = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    tag = _TAG + hashlib.sha256(sources).hexdigest()[:12]
    said = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mainspring"
    base = Path(said) if said else home
    return base.parent / tag if base.name.startswith(_TAG) else base / tag


os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())  # before numba is imported; processes that we start inherit it

import numba  # noqa: E402
import numba.core.config  # noqa: E402

# numba may have been imported before us.
numba.core.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]  # type: ignore[attr-defined]

OPTIONS: Final[dict[str, Any]] = {"cache": True, "nogil": True, "fastmath": False, "error_model": "numpy"}
DISPATCHERS: Final[list[Any]] = []


def compiled(signature: str) -> Any:
    """Decorator: compile now, for ``signature`` alone, from the cache if it is there."""

    def compile_now(function: Any) -> Any:
        dispatcher = numba.njit(signature, **OPTIONS)(function)
        dispatcher.disable_compile()  # another type is a TypeError at once, not a compilation in a request
        DISPATCHERS.append(dispatcher)
        return dispatcher

    return compile_now
