"""Who sits at the command line."""

from __future__ import annotations

import getpass


def actor() -> str:
    """The user's login name: what is written beside a decision."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "somebody"
