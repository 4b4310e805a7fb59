"""``mainspring.toml``: where the definitions are, and the five URLs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from mainspring.core.errors import ConfigError
from mainspring.core.hosts import check_host
from mainspring.core.names import check_name

FILE_NAME = "mainspring.toml"
LAST_PORT = 65_535
Port = Annotated[int, msgspec.Meta(ge=0, le=LAST_PORT)]


class ProjectSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name of the project and its definitions file; in production a model must say what is answered when it cannot."""

    name: str
    definitions: str = "definitions.py"
    home: str = ".mainspring"
    environment: Literal["development", "production"] = "development"


class UrlSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The five URLs. An empty one means the embedded default in the project's home."""

    log: str = ""
    online: str = ""
    lake: str = ""
    catalog: str = ""
    compute: str = "local:"


class DoorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a process listens. Port 0 takes a free one and writes it to the run folder.

    Attributes:
        keys: Whether every request needs a key; where others than this machine reach the door it always does.
    """

    host: str = "127.0.0.1"
    port: Port = 0
    max_body_bytes: int = 8_388_608
    max_rows: int = 10_000
    keys: bool = False


class GatewaySection(DoorSection, frozen=True, forbid_unknown_fields=True):
    """The gateway's doors: HTTP, and gRPC on a port of its own if there is one; 0 takes a free one.

    Attributes:
        workers: Processes that share the port.
    """

    port: Port = 7070
    grpc: Port | None = None
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


class IntakeSection(DoorSection, frozen=True, forbid_unknown_fields=True):
    """The intake's door.

    Attributes:
        max_stream_bytes: Most that a body which is taken piece by piece may unpack to.
    """

    port: Port = 7071
    max_stream_bytes: int = 1_073_741_824


class TlsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Certificate and key of gateway and intake, PEM files; with ``client_ca`` clients need one of its certificates."""

    cert: str
    key: str
    client_ca: str = ""


class TracesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spans for OpenTelemetry: the collector that takes OTLP over HTTP, and how many of those that nobody asks for.

    Attributes:
        share: Of requests that come without a ``traceparent``, and of the worker's batches.
    """

    endpoint: str = "http://127.0.0.1:4318"
    share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class LimitSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a laptop's disk and memory are asked for at most.

    Attributes:
        replay_memory_bytes: For the replay of a training set, besides the history that it reads and its rows; without
            it, as much as it takes.
    """

    log_map_bytes: int = 17_179_869_184
    state_map_bytes: int = 17_179_869_184
    log_keep: str = "14d"
    disk_free_bytes: int = 268_435_456
    replay_memory_bytes: Annotated[int, msgspec.Meta(ge=67_108_864)] | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    project: ProjectSection
    urls: UrlSection = UrlSection()
    intake: IntakeSection = IntakeSection()
    gateway: GatewaySection = GatewaySection()
    worker: DoorSection = DoorSection()
    limits: LimitSection = LimitSection()
    tls: TlsSection | None = None
    traces: TracesSection | None = None
    connect: dict[str, dict[str, Any]] = {}


class Config(msgspec.Struct, frozen=True):
    """A project's settings with every path resolved.

    Attributes:
        connect: The tables ``[connect.NAME]`` as they are written; ``events.connectors`` says what they may hold.
    """

    root: Path
    project: ProjectSection
    urls: UrlSection
    intake: IntakeSection
    gateway: GatewaySection
    limits: LimitSection
    connect: dict[str, dict[str, Any]] = {}
    worker: DoorSection = DoorSection()
    tls: TlsSection | None = None
    traces: TracesSection | None = None

    @property
    def home(self) -> Path:
        """Folder of everything that the project stores."""
        return self.root / self.project.home

    @property
    def run(self) -> Path:
        """Folder of the running processes: locks, ports, sockets, tokens."""
        return self.home / "run"

    @property
    def definitions(self) -> Path:
        """The definitions file."""
        return self.root / self.project.definitions

    @property
    def log_path(self) -> Path:
        """Folder of the LMDB log."""
        return self._local("log", "lmdb")

    @property
    def state_path(self) -> Path:
        """Folder of the LMDB online store."""
        return self._local("online", "lmdb")

    @property
    def lake_path(self) -> Path:
        """Folder of the Delta tables."""
        return self._local("lake", "file")

    @property
    def packages(self) -> Path:
        """Folder of the model packages."""
        return self.home / "packages"

    @property
    def datasets(self) -> Path:
        """Folder of the training sets."""
        return self.home / "datasets"

    def stored(self, path: Path) -> str:
        """How a path inside the project's home is written down: relative to it, so that a project may be moved."""
        return str(path.resolve().relative_to(self.home.resolve()))

    def located(self, stored: str) -> Path:
        """The path that `stored` wrote down."""
        return self.home / stored

    @property
    def catalog_url(self) -> str:
        """SQLAlchemy URL of the catalog; the path of an SQLite file is relative to the project."""
        url = self.urls.catalog or f"sqlite:///{self.home / 'catalog.db'}"
        file = url.removeprefix("sqlite:///")
        return url if file == url else f"sqlite:///{self.root / file}"

    @property
    def tracking_url(self) -> str:
        """MLflow tracking URL."""
        return f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def pipelines_url(self) -> str:
        """DBOS system database URL."""
        return f"sqlite:///{self.home / 'pipelines.db'}"

    def _local(self, port: str, scheme: str) -> Path:
        url = getattr(self.urls, port)
        default = {"log": "log", "online": "state", "lake": "lake"}[port]
        if not url:
            return self.home / default
        parts = urlsplit(url)
        if parts.scheme != scheme:
            raise ConfigError(
                "MS-C004",
                f"urls.{port} = {url!r} names a store that this release does not have",
                where=str(self.root / FILE_NAME),
                hint=f'use "{scheme}:PATH", or leave it out for the embedded default',
            )
        return Path(self.root, parts.netloc + parts.path)


def load_config(root: Path) -> Config:
    """Read ``root/mainspring.toml``.

    Raises:
        ConfigError: No such file (MS-C002), it does not hold what it should (MS-C003), or a store, URL or host in it
            is none (MS-C004).
    """
    path = root / FILE_NAME
    if not path.is_file():
        raise ConfigError(
            "MS-C002", f"no {FILE_NAME} here", where=str(root), hint="mainspring init DATA.csv, or cd to a project"
        )
    try:
        read = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigError("MS-C003", f"{FILE_NAME} cannot be read: {error}", where=str(path)) from None
    check_name(read.project.name, "project name")
    for name in read.connect:
        check_name(name, "name of a connector")
    if read.traces is not None:
        _check_endpoint(read.traces.endpoint, path)
    for door in ("intake", "gateway", "worker"):
        check_host(getattr(read, door).host, f"{door}.host", str(path))
    doors = read.intake, read.gateway
    values = {name: getattr(read, name) for name in ("limits", "connect", "worker", "tls", "traces")}
    return Config(root.resolve(), read.project, read.urls, *doors, **values)


def _check_endpoint(url: str, path: Path) -> None:
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        what = f"traces.endpoint = {url!r} is no http:// or https:// URL"
        raise ConfigError("MS-C004", what, where=str(path), hint='endpoint = "http://127.0.0.1:4318"')
