"""All that a project has, and what is made of what: from a source's columns to the releases that read them.

Made anew whenever somebody asks, from the definitions file and from what the catalog records of releases and training
sets: there is no second place where it could be written otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mainspring.core.errors import NotFoundError
from mainspring.core.names import did_you_mean

Kind = Literal[
    "source", "column", "view", "feature", "label", "model", "composite", "check", "dataset", "release", "consumer"
]
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Key:
    """What an asset is, and its name, such as ``column`` and ``paid.amount``."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        """Both."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Asset:
    """One thing that a project has.

    Attributes:
        doc: What it is, in a sentence; empty if nobody said it.
        owner: Who answers for it.
        tags: Words to find it by.
        pii: What it tells of a person, by its own mark.
        facts: What else there is to know, by name.
        is_defined: Whether the definitions file has it: a column that only a release reads is no longer there.
        earlier: Names that it had before.
    """

    key: Key
    doc: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    pii: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_defined: bool = True
    earlier: tuple[str, ...] = ()

    def words(self) -> str:
        """All that it can be found by, in lower case."""
        said = (v for v in self.facts.values() if isinstance(v, str))
        return " ".join((str(self.key), self.doc, self.owner, *self.tags, self.pii, *self.earlier, *said)).lower()


@dataclass(frozen=True)
class Step:
    """An asset on the way up or down.

    Attributes:
        distance: How many steps away at least.
        via: The asset one step nearer.
    """

    key: Key
    distance: int
    via: Key


class Assets:
    """Assets, and which of them is made of which.

    Args:
        assets: Each once.
        reads: What each is made of directly.
    """

    def __init__(self, assets: Iterable[Asset], reads: Iterable[tuple[Key, Key]]) -> None:
        self._assets = {one.key: one for one in assets}
        self._up: dict[Key, list[Key]] = {key: [] for key in self._assets}
        self._down: dict[Key, list[Key]] = {key: [] for key in self._assets}
        for reader, read in dict.fromkeys(reads):
            for key in (reader, read):
                if key not in self._assets:
                    self._assets[key] = Asset(key, is_defined=False)
                    self._up[key], self._down[key] = [], []
            self._up[reader].append(read)
            self._down[read].append(reader)

    def __iter__(self) -> Iterator[Asset]:
        """All, by kind and name."""
        return iter(sorted(self._assets.values(), key=lambda one: _place(one.key)))

    def __getitem__(self, key: Key) -> Asset:
        """The asset of a key."""
        return self._assets[key]

    def named(self, name: str, kind: str | None = None) -> tuple[Asset, ...]:
        """Every asset of a name, or the one of a kind; by an earlier name, or by the beginning of a version.

        Raises:
            NotFoundError: There is none (MS-C056).
        """
        of_kind = [one for one in self if kind in (None, one.key.kind)]
        found = [one for one in of_kind if one.key.name == name] or [one for one in of_kind if name in one.earlier]
        if not found and ("@" in name or "/" in name):
            found = [one for one in of_kind if one.key.name.startswith(name)]
        if not found:
            what = f"the catalog has no {kind or 'asset'} named {name!r}"
            hint = did_you_mean(name, {one.key.name for one in of_kind}) or "mainspring catalog search"
            raise NotFoundError("MS-C056", what, hint=hint)
        return tuple(found)

    def search(self, words: Iterable[str]) -> list[Asset]:
        """Assets with every one of some words, in names before in what is said of them."""
        wanted = [word.lower() for word in words]

        def rank(one: Asset) -> int:
            parts = one.key.name.replace("/", ".").replace("@", ".").split(".")
            if all(word in parts for word in wanted):
                return 0
            return 1 if all(word in one.key.name for word in wanted) else 2

        found = [one for one in self if all(word in one.words() for word in wanted)]
        return sorted(found, key=rank)

    def reads(self, key: Key) -> list[Key]:
        """What an asset is made of directly, by kind and name."""
        return sorted(self._up[key], key=_place)

    def read_by(self, key: Key) -> list[Key]:
        """What is made of an asset directly, by kind and name."""
        return sorted(self._down[key], key=_place)

    def up(self, key: Key) -> list[Step]:
        """All that an asset is made of, the nearest first."""
        return _walk(key, self._up)

    def down(self, key: Key) -> list[Step]:
        """All that is made of an asset, the nearest first."""
        return _walk(key, self._down)

    def personal(self, key: Key) -> dict[str, str]:
        """Columns that tell of a person and that an asset is made of, itself if it is one: their marks by name."""
        made_of = (self._assets[k] for k in (key, *(step.key for step in self.up(key))))
        return {one.key.name: one.pii for one in made_of if one.pii}


def _place(key: Key) -> tuple[int, str]:
    return KINDS.index(key.kind), key.name


def _walk(start: Key, edges: Mapping[Key, list[Key]]) -> list[Step]:
    seen, out, now = {start}, [], [start]
    distance = 0
    while now:
        distance += 1
        after = []
        for key in now:
            for other in edges[key]:
                if other not in seen:
                    seen.add(other)
                    after.append(other)
                    out.append(Step(other, distance, key))
        now = after
    return out
