"""File descriptors of this process: each connection takes one, and a shell's usual soft limit is 1,024 of them.

When they run out nobody can be let in, or told why; and a log or a spool file cannot be opened either. So a door first
raises the soft limit, as a process may by itself, and takes no more connections than leave a reserve for the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import resource
import sys
import termios
from functools import cache

RESERVE = 512
"""Descriptors that are not for a door's connections: files, the log, other doors, who is only told to come later."""
_ENOUGH = 65_536
_log = logging.getLogger(__name__)


@cache
def connections_that_fit(wanted: int) -> int:
    """How many connections a door may have; said in the log, once, where it is fewer than wanted.

    Raises this process's soft limit of open files towards the hard one, to 65,536 at most; never lowers it.
    """
    soft = _raise_limit()
    fit = min(wanted, room_in(soft))
    if fit < wanted:
        _log.warning(
            "a door takes %d connections instead of %d: this process may open only %d files; raise its hard limit "
            "(ulimit -Hn, LimitNOFILE= of systemd) to %d",
            *(fit, wanted, soft, wanted + RESERVE),
        )
    return fit


def room_in(soft: int) -> int:
    """Connections that fit into a limit of open files: all but the reserve, which is no more than half of it.

    >>> room_in(1_536), room_in(1_024), room_in(256)
    (1024, 512, 128)
    """
    return max(1, soft - min(RESERVE, soft // 2))


def aim(soft: int, hard: int) -> int:
    """The soft limit to have, given the present limits of open files; -1 in either is no limit.

    >>> aim(1_024, 4_096), aim(1_024, 1_048_576), aim(1_024, -1), aim(100_000, 1_048_576), aim(-1, -1)
    (4096, 65536, 65536, 100000, -1)
    """
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH))


def unread_bytes(descriptor: int) -> int:
    """What a socket has received and nobody has read."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def _raise_limit() -> int:
    """The soft limit once it is as high as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    better = aim(soft, hard)
    if better != soft:
        with contextlib.suppress(OSError, ValueError):  # a sandbox that forbids it
            resource.setrlimit(resource.RLIMIT_NOFILE, (better, hard))
            soft = better
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft
