"""Rows on which a forest's graph is most likely to be wrong: beside every threshold, on the path that leads there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mainspring.models.forest import Forest, Node
from mainspring.models.signature import Floats, Signature, Texts

UNSEEN = "\u2047 never seen at training"
Bounds = dict[int, tuple[float, float]]
Members = dict[int, tuple[frozenset[int], frozenset[int]]]


def beside_thresholds(forest: Forest, signature: Signature, numbers: Floats, texts: Texts) -> tuple[Floats, Texts]:
    """For each different (column, threshold): the threshold and its float32 neighbours, on rows that reach the split.

    Args:
        forest: The trees.
        signature: Of the model.
        numbers: Rows to start from; only what the path asks for is changed.
        texts: Of the same rows.

    Returns:
        Three rows a threshold, as input matrices.
    """
    rows: list[Floats] = []
    words: list[Texts] = []
    seen: set[tuple[int, float]] = set()
    for tree in forest.trees:
        for node, bounds, members in _paths(tree):
            if node.members is not None or (node.feature, node.threshold) in seen:
                continue
            seen.add((node.feature, node.threshold))
            base = (len(seen) * 7919) % len(numbers)  # spread over the rows
            row = _inside(forest, bounds, numbers[base], signature)
            said = _among(forest, members, texts[base], signature)
            at = signature.numbers.index(forest.columns[node.feature])
            for value in _neighbours(np.float32(node.threshold)):
                beside = row.copy()
                beside[at] = value
                rows.append(beside)
                words.append(said)
    return (np.stack(rows), np.stack(words)) if rows else (numbers[:0], texts[:0])


def _neighbours(value: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    with np.errstate(over="ignore"):
        return np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf))


def _inside(forest: Forest, bounds: Bounds, row: Floats, signature: Signature) -> Floats:
    """``row`` with low < x ≤ high for each bound; beyond infinity lies only the missing value."""
    out = row.copy()
    for feature, (low, high) in bounds.items():
        at = signature.numbers.index(forest.columns[feature])
        if not low < out[at] <= high:
            above = np.float32(np.nan) if low == np.inf else _neighbours(np.float32(low))[2]
            out[at] = high if np.isfinite(high) else above
    return out


def _among(forest: Forest, members: Members, words: Texts, signature: Signature) -> Texts:
    """``words`` with a category that is in and out of the sets asked for; an unseen one where none is."""
    out = words.copy()
    for feature, (inside, outside) in members.items():
        known = forest.categories[feature]
        codes = sorted(inside) if inside else range(len(known))
        code = next((c for c in codes if c < len(known) and c not in outside), None)
        out[signature.texts.index(forest.columns[feature])] = UNSEEN if code is None else known[code]
    return out


def _paths(tree: tuple[Node, ...]) -> Iterator[tuple[Node, Bounds, Members]]:
    """Each split of a tree with what a row must be to reach it: low < x ≤ high, and in or out of sets of categories."""
    stack: list[tuple[int, Bounds, Members]] = [(0, {}, {})]
    while stack:
        i, bounds, members = stack.pop()
        node = tree[i]
        if node.left < 0:
            continue
        yield node, bounds, members
        if node.members is None:
            low, high = bounds.get(node.feature, (-np.inf, np.inf))
            stack.append((node.left, bounds | {node.feature: (low, min(high, node.threshold))}, members))
            stack.append((node.right, bounds | {node.feature: (max(low, node.threshold), high)}, members))
        else:
            inside, outside = members.get(node.feature, (frozenset(), frozenset()))
            fits = inside & node.members if inside else node.members
            stack.append((node.left, bounds, members | {node.feature: (fits, outside)}))
            stack.append((node.right, bounds, members | {node.feature: (inside, outside | node.members)}))
