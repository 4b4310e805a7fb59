"""The connectors that ``mainspring.toml`` declares: one table ``[connect.NAME]`` each, checked when it is read."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from mainspring.core.config import FILE_NAME, Config
from mainspring.core.errors import ConfigError, MainspringError, NotFoundError
from mainspring.core.ids import content_hash
from mainspring.core.names import did_you_mean
from mainspring.core.spans import parse_span
from mainspring.definitions.values import Project, SourceDef
from mainspring.events.connectors.connector import Connector, Settings, Site

KINDS = {
    "files": "mainspring.events.connectors.files:Files",
    "sql": "mainspring.events.connectors.sql:Query",
    "postgres": "mainspring.events.connectors.postgres:Changes",
    "http": "mainspring.events.connectors.polling:Polling",
    "mqtt": "mainspring.events.connectors.mqtt:Subscription",
}
"""Our own, by name: module and class."""
_EXTRAS = {"mqtt": "mqtt", "postgres": "postgres", "files": "files", "sql": "postgres"}
_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HIDDEN = "***"


@dataclass(frozen=True)
class Declared:
    """One connector as it is declared.

    Attributes:
        table: As written, with ``${NAME}`` where a secret goes.
        source: Where its rows go.
    """

    name: str
    table: dict[str, Any]
    source: SourceDef
    config: Config

    @property
    def kind(self) -> str:
        """Which connector."""
        return str(self.table["kind"])

    @property
    def where(self) -> str:
        """Its place, for errors."""
        return f"{self.config.root / FILE_NAME} [connect.{self.name}]"

    @property
    def url(self) -> str:
        """Where it reads, for people: a password that is written there is hidden."""
        return hidden(str(self.table.get("url", "")), self.secrets())

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: values of ``${NAME}``, and passwords within URLs."""
        found = {os.environ.get(name, "") for text in _texts(self.table) for name in _SECRET.findall(text)}
        for text in _texts(_filled(self.table, {})):
            if "://" in text:
                try:
                    password = urlsplit(text).password or ""
                except ValueError:
                    continue
                found |= {password, unquote(password)}
        found = {secret for secret in found if secret and not _SECRET.fullmatch(secret)}
        return tuple(sorted(found, key=len, reverse=True))

    def settings(self) -> Settings:
        """Its settings, with the environment's values for ``${NAME}``.

        Raises:
            ConfigError: The kind is unknown (MS-C080), a key or value cannot be (MS-C081), a variable is not set
                (MS-C082), a package is not installed (MS-C083).
        """
        kind = self.connector_type()
        missing = sorted({n for t in _texts(self.table) for n in _SECRET.findall(t) if n not in os.environ})
        if missing:
            hint = f"export {missing[0]}=… before it is started"
            raise ConfigError("MS-C082", f"${{{missing[0]}}} is not set", where=self.where, hint=hint)
        try:
            settings = msgspec.convert(_filled(self.table, dict(os.environ)), kind.settings_type)
        except msgspec.ValidationError as error:
            what = hidden(f"connector {self.name}: {error}", self.secrets())
            hint = "known are " + ", ".join(kind.settings_type.__struct_fields__)
            raise ConfigError("MS-C081", what, where=self.where, hint=hint) from None
        parse_span(settings.every)
        if settings.batch < 1:
            raise ConfigError("MS-C081", f"connector {self.name}: batch is at least 1", where=self.where)
        strange = [name for name in settings.columns if name not in self.source.names]
        if strange:
            hint = did_you_mean(strange[0], self.source.names)
            what = f"{self.source.name} has no column {strange[0]!r} that columns could fill"
            raise ConfigError("MS-C081", what, where=self.where, hint=hint)
        return settings

    def connector_type(self) -> type[Connector]:
        """Its class.

        Raises:
            ConfigError: There is none of that name (MS-C080), or a package that it needs is not there (MS-C083).
        """
        target = KINDS.get(self.kind, self.kind)
        module_name, _, class_name = target.partition(":")
        if not class_name:
            hint = f"{did_you_mean(self.kind, KINDS)} Or file.py:Class for one of your own"
            raise ConfigError("MS-C080", f"no connector is of kind {self.kind!r}", where=self.where, hint=hint)
        try:
            module = self._own(module_name) if self.kind not in KINDS else importlib.import_module(module_name)
        except ImportError as error:
            extra = _EXTRAS.get(self.kind)
            hint = f"pip install 'mainspring[{extra}]'" if extra else "install it beside Mainspring"
            what = f"connector {self.name} needs a package that is not installed"
            raise ConfigError("MS-C083", what, where=self.where, why=str(error), hint=hint) from None
        found = getattr(module, class_name, None)
        if not isinstance(found, type) or not hasattr(found, "read"):
            raise ConfigError(
                "MS-C080", f"{target} is no connector", where=self.where, hint="see docs/reference/connectors.md"
            )
        return found

    @contextmanager
    def opened(self) -> Iterator[Connector]:
        """The connector, closed at the end; what it says of an error is without secrets."""
        try:
            connector = self.open()
            try:
                yield connector
            finally:
                connector.close()
        except MainspringError as error:
            secrets = self.secrets()
            parts = {"where": error.where, "why": error.why, "hint": error.hint}
            shown = {name: hidden(text, secrets) for name, text in parts.items()}
            what = hidden(error.what, secrets)
            if (what, shown) == (error.what, parts):
                raise
            raise type(error)(error.code, what, **shown) from None

    def open(self) -> Connector:
        """The connector itself; it has reached for nothing yet."""
        return self.connector_type()(self.settings(), Site(self.name, self.config.root, self.source))

    def _own(self, file: str) -> Any:
        """A connector of the project's own: a Python file beside ``mainspring.toml``, loaded as definitions are."""
        path = (self.config.root / file).resolve()
        name = f"mainspring_connector_{content_hash(str(path))}"
        spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
        if spec is None or spec.loader is None:
            raise ConfigError("MS-C080", f"no Python file {file!r}", where=self.where)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def declared(config: Config, project: Project) -> dict[str, Declared]:
    """Every connector of ``mainspring.toml``, by name.

    Raises:
        ConfigError: A table has no kind, or names a source that is not defined (MS-C081).
    """
    out: dict[str, Declared] = {}
    for name, table in config.connect.items():
        where = f"{config.root / FILE_NAME} [connect.{name}]"
        for key in ("kind", "source"):
            if not isinstance(table.get(key), str):
                raise ConfigError("MS-C081", f"connector {name} has no {key}", where=where, hint=f'{key} = "…"')
        source = project.sources.get(table["source"])
        if source is None:
            hint = did_you_mean(table["source"], project.sources)
            what = f"connector {name}: no source {table['source']!r} is defined"
            raise ConfigError("MS-C081", what, where=where, hint=hint)
        out[name] = Declared(name, table, source, config)
    return out


def one_declared(config: Config, project: Project, name: str) -> Declared:
    """The connector of that name.

    Raises:
        NotFoundError: There is none (MS-C084).
    """
    found = declared(config, project)
    if name not in found:
        hint = did_you_mean(name, found) or f"write a table [connect.{name}] in {FILE_NAME}"
        raise NotFoundError("MS-C084", f"no connector {name!r} is declared", hint=hint)
    return found[name]


def hidden(text: str, secrets: tuple[str, ...]) -> str:
    """A text without the secrets.

    >>> hidden("postgresql://me:pw@db", ("pw",))
    'postgresql://me:***@db'
    """
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return text


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _filled(value: Any, environment: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, environment) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, environment) for part in value]
    if isinstance(value, str):
        return _SECRET.sub(lambda found: environment.get(found[1], found[0]), value)
    return value
