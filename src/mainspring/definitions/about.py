"""What people should know of a source or a column besides its contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mainspring.core.spans import format_span

if TYPE_CHECKING:
    from mainspring.definitions.values import SourceDef


@dataclass(frozen=True)
class About:
    """What people should know of a source or a column: no part of the contract, so a change of it is no new version.

    Attributes:
        doc: What it is, in a sentence.
        unit: Of a column's numbers, such as ``min`` or ``EUR``.
        pii: What a column tells of a person: one of ``marks.PII``; empty for nothing.
        tags: Words to find it by.
        deprecated: What a column's senders should do instead of sending it; empty if it is not deprecated.
        owner: Who answers for a source.
        consumers: Who outside of the project reads a source, and which of its columns; none named means all.
    """

    doc: str = ""
    unit: str = ""
    pii: str = ""
    tags: tuple[str, ...] = ()
    deprecated: str = ""
    owner: str = ""
    consumers: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def describe(self) -> dict[str, Any]:
        """As JSON; what is not said is left out."""
        out: dict[str, Any] = {}
        for name in ("doc", "unit", "pii", "deprecated", "owner"):
            if getattr(self, name):
                out[name] = getattr(self, name)
        if self.tags:
            out["tags"] = list(self.tags)
        if self.consumers:
            out["consumers"] = {who: list(columns) for who, columns in self.consumers}
        return out


def described(source: SourceDef) -> dict[str, Any]:
    """A source as the catalog keeps it: its contract, its version, and what is known of it and its columns besides."""
    columns = {f.name: f.about.describe() for f in source.fields}
    about = source.about.describe() | {"columns": {name: said for name, said in columns.items() if said}}
    if source.compatible != "backward":
        about["compatible"] = source.compatible
    if source.keep_us is not None:
        about["keep"] = format_span(source.keep_us)
    about = {name: value for name, value in about.items() if value}
    return source.describe() | {"version": source.version, "doc": source.doc} | ({"about": about} if about else {})
