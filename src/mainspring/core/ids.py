"""Ids and content hashes: the same content has the same name everywhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def content_hash(value: Any, length: int = 12) -> str:
    """A short hexadecimal name for a JSON-able value, equal for equal content.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def hash128(*parts: bytes) -> bytes:
    """16 bytes that stand for ``parts``, each with its length, so that ("a", "bc") and ("ab", "c") differ."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(part)
    return digest.digest()


def prediction_id(epoch: str, sequence: int) -> str:
    """Gateway epoch and sequence, so that a gap in what a gateway answered is seen.

    >>> prediction_id("k3f9", 7)
    'k3f9-7'
    """
    return f"{epoch}-{sequence}"
