"""The line of a definitions file that an error is about, when it lies inside a class or a call read as a whole.

Read from the file's text, and only once there is an error: what is right costs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mainspring.core.errors import DefinitionError
from mainspring.definitions.values import Place


@contextmanager
def at_attribute(place: Place, attribute: str) -> Iterator[None]:
    """What is wrong in the block is said of the line that sets ``attribute`` in the class decorated at ``place``."""
    try:
        yield
    except DefinitionError as error:
        raise error.at(str(line_of_attribute(place, attribute))) from None


@contextmanager
def at_item(place: Place, keyword: str, number: int) -> Iterator[None]:
    """What is wrong in the block is said of item ``number`` of the list ``keyword=[…]`` of the call at ``place``."""
    try:
        yield
    except DefinitionError as error:
        raise error.at(str(line_of_item(place, keyword, number))) from None


def line_of_attribute(place: Place, attribute: str) -> Place:
    """Where the class that is decorated at ``place`` sets ``attribute``; ``place`` when that cannot be told."""
    for node in _nodes(place):
        if isinstance(node, ast.ClassDef) and any(d.lineno == place.line for d in node.decorator_list):
            found = [s.lineno for s in node.body if attribute in _targets(s)]
            return Place(place.file, found[-1]) if found else place
    return place


def line_of_item(place: Place, keyword: str, number: int) -> Place:
    """Where the call at ``place`` has item ``number`` of ``keyword=[…]``; ``place`` when that cannot be told."""
    for node in _nodes(place):
        if isinstance(node, ast.Call) and node.lineno == place.line:
            given = next((k.value for k in node.keywords if k.arg == keyword), None)
            items: Sequence[ast.expr] = given.elts if isinstance(given, ast.List | ast.Tuple) else ()
            if number < len(items) and not any(isinstance(item, ast.Starred) for item in items[:number]):
                return Place(place.file, items[number].lineno)
    return place


def _nodes(place: Place) -> Iterator[ast.AST]:
    try:
        tree = ast.parse(Path(place.file).read_bytes())
    except (OSError, SyntaxError, ValueError):  # a session's own lines, or a file that has been changed meanwhile
        return
    yield from ast.walk(tree)


def _targets(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []
