"""Load a definitions file and check that its parts fit together."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import traceback
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from mainspring.core.errors import DefinitionError, MainspringError
from mainspring.core.ids import content_hash
from mainspring.definitions.check import CheckDef
from mainspring.definitions.composition import CompositeDef
from mainspring.definitions.features import ViewDef
from mainspring.definitions.misused import misuse_of
from mainspring.definitions.source import Source, Table
from mainspring.definitions.values import LabelDef, ModelDef, Project, SourceDef


class _Text(SourceLoader):
    """Runs a text as the module that a file is."""

    def __init__(self, path: Path, text: bytes) -> None:
        self._path = str(path)
        self._text = text

    def get_filename(self, fullname: str) -> str:
        """The file's name."""
        return self._path

    def get_data(self, path: str) -> bytes:
        """The text."""
        return self._text


def read_definitions(path: Path) -> bytes:
    """The text of a definitions file.

    Raises:
        DefinitionError: No such file, or one that cannot be read (MS-D160).
    """
    if not path.is_file():
        raise DefinitionError("MS-D160", "no definitions file", where=str(path), hint="mainspring init DATA.csv")
    try:
        return path.read_bytes()
    except OSError as error:
        what = "the definitions file cannot be read"
        raise DefinitionError("MS-D160", what, where=str(path), why=str(error)) from None


def load_project(path: Path, text: bytes | None = None) -> Project:
    """Run a definitions file and collect what it defines.

    Args:
        path: The file.
        text: Run this as if it were what the file says, though it may say something else by now, or be gone.

    Raises:
        DefinitionError: No such file (MS-D160), it does not run (MS-D161), duplicate names (MS-D162), nothing in it
            (MS-D163), a word with other arguments than it takes (MS-D164).
    """
    text = read_definitions(path) if text is None else text
    name = f"mainspring_definitions_{content_hash(str(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Text(path, text))
    if spec is None or spec.loader is None:
        raise DefinitionError("MS-D160", "the definitions file is no Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are resolved through it
    try:
        source = importlib.util.decode_source(text)
        linecache.cache[str(path)] = len(source), None, source.splitlines(keepends=True), str(path)  # for ``inspect``
        spec.loader.exec_module(module)
    except MainspringError:
        raise
    except (Exception, SystemExit) as error:
        line = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), 0
        )
        line = getattr(error, "lineno", None) or line
        misuse = misuse_of(error, f"{path}:{line}")
        if misuse is not None:
            raise misuse from error
        what = f"the definitions file does not run: {type(error).__name__}: {error}"
        raise DefinitionError("MS-D161", what, where=f"{path}:{line}") from error
    return collect(module, str(path))


def collect(module: ModuleType, path: str = "") -> Project:
    """The project that a module's names define.

    Raises:
        DefinitionError: Two things with one name (MS-D162), or nothing defined (MS-D163).
    """
    sources: dict[str, SourceDef] = {}
    views: dict[str, ViewDef] = {}
    models: dict[str, ModelDef] = {}
    checks: dict[str, CheckDef] = {}
    composites: dict[str, CompositeDef] = {}
    for thing in vars(module).values():
        if isinstance(thing, type) and issubclass(thing, Source) and thing not in (Source, Table):
            _add(sources, thing.definition, "sources")
        elif isinstance(thing, ViewDef):
            _add_view(thing, sources, views)
        elif isinstance(thing, LabelDef):
            _add(sources, thing.source, "sources")
        elif isinstance(thing, ModelDef):
            _add_model(thing, sources, views, models)
        elif isinstance(thing, CompositeDef):
            for member in thing.members:
                _add_model(member, sources, views, models)
            _add(composites, thing, "composites")
        for one in thing if isinstance(thing, list | tuple) else (thing,):
            if isinstance(one, CheckDef):
                _add(sources, one.source, "sources")
                _add(checks, one, "checks")
    if not sources:
        raise DefinitionError(
            "MS-D163", "the definitions file defines no source", where=path, hint="class Name(ms.Source, time=…)"
        )
    for name in composites.keys() & models.keys():
        why = f"the model is at {models[name].place}: both would be asked for as {name}"
        what = f"a model and a composite are named {name!r}"
        raise DefinitionError("MS-D162", what, where=str(composites[name].place), why=why)
    return Project(sources, views, models, path, checks, composites)


def _add_model(
    model: ModelDef, sources: dict[str, SourceDef], views: dict[str, ViewDef], models: dict[str, ModelDef]
) -> None:
    for source in (model.request, model.label.source):
        _add(sources, source, "sources")
    for view in model.views:
        _add_view(view, sources, views)
    _add(models, model, "models")


def _add_view(view: ViewDef, sources: dict[str, SourceDef], views: dict[str, ViewDef]) -> None:
    for source in view.sources:
        _add(sources, source, "sources")
    for used in view.using:
        _add_view(used, sources, views)
    _add(views, view, "feature views")


def _add(into: dict[str, Any], thing: SourceDef | ViewDef | ModelDef | CheckDef | CompositeDef, what: str) -> None:
    known = into.get(thing.name)
    if known is not None and known is not thing:
        why = f"the other is at {known.place}"
        raise DefinitionError("MS-D162", f"two {what} are named {thing.name!r}", where=str(thing.place), why=why)
    into[thing.name] = thing
