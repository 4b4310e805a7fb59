"""The command line: one lazily imported module a command, the logic in the rooms below."""

from mainspring.cli.app import main

__all__ = ["main"]
