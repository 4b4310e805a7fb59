"""Every error says what, where, why, and the command that mends it, and carries a stable code.

Codes are documented in ``docs/reference/errors.md``; the letter names the room: D definitions, C configuration,
E events, F features, M models, T training, S serving, R rollout, L loop.
"""

from __future__ import annotations

from typing import Self


class MainspringError(Exception):
    """What went wrong, in the user's terms.

    Args:
        code: Stable code such as ``MS-D101``.
        what: One sentence that says what is wrong.
        where: File and line, path in a record, name of an object.
        why: The rule that was broken, or the cause.
        hint: What to do, at best a command.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        """The error on a few lines, as terminals show it."""
        lines = [f"{self.code}: {self.what}"]
        lines += [
            f"  {label}: {text}" for label, text in (("at", self.where), ("why", self.why), ("try", self.hint)) if text
        ]
        return "\n".join(lines)

    def at(self, where: str) -> Self:
        """The same error with another place: who reads the whole may know the line better."""
        return type(self)(self.code, self.what, where=where, why=self.why, hint=self.hint)

    def to_dict(self) -> dict[str, str]:
        """The error as HTTP bodies and ``--json`` show it."""
        parts = {"code": self.code, "error": self.what, "where": self.where, "why": self.why, "hint": self.hint}
        return {key: text for key, text in parts.items() if text}


class DefinitionError(MainspringError, ValueError):
    """A definitions file says something that cannot be."""

    exit_code = 3
    http_status = 400


class UsageError(MainspringError, ValueError):
    """The command line cannot be understood."""

    exit_code = 2
    http_status = 400


class ConfigError(MainspringError, ValueError):
    """``mainspring.toml`` or the command line asks for something that cannot be."""

    exit_code = 3
    http_status = 400


class ContractError(MainspringError, ValueError):
    """A record breaks its source's contract."""

    exit_code = 4
    http_status = 422


class RefusedError(MainspringError, PermissionError):
    """The request is understood and not allowed: a gate, a bound, a missing key."""

    exit_code = 5
    http_status = 403


class NotFoundError(MainspringError, LookupError):
    """A name or id that is not known."""

    exit_code = 6
    http_status = 404


class UnavailableError(MainspringError, ConnectionError):
    """A process or store that is needed cannot be reached.

    Attributes:
        retry_after_s: When it is worth while to ask again.
    """

    exit_code = 7
    http_status = 503
    retry_after_s = 1


class DeadlineError(MainspringError, TimeoutError):
    """The answer would come later than its client wants it."""

    exit_code = 7
    http_status = 504


class BackPressureError(UnavailableError):
    """Full for now: try again after a while."""

    http_status = 429


class TooLargeError(MainspringError, ValueError):
    """A body, header or batch over its limit."""

    exit_code = 4
    http_status = 413


class FormatError(MainspringError, ValueError):
    """Stored bytes of a format version this release does not know."""

    exit_code = 8


class PackageError(MainspringError, ValueError):
    """A model that cannot be packaged, or a package that does not hold what it says."""

    exit_code = 9
