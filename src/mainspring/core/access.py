"""How a door is opened to others: which address, with TLS or not, and whether every request needs a key.

A door that others reach, or that speaks TLS, has an inner one beside it, plain and on loopback, for the project's own
processes: they need no certificate to find one another.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from mainspring.core.config import Config, DoorSection
from mainspring.core.errors import ConfigError
from mainspring.core.hosts import check_here


@dataclass(frozen=True)
class Access:
    """Who may come to a door.

    Attributes:
        host: The address to listen on.
        is_wide: Whether others than this machine reach it.
        needs_keys: Whether every request needs a key.
        tls: What a TLS door presents; None for a plain one.
        pems: The same as bytes, for gRPC: key, certificate, and the authority of clients if they need certificates.
    """

    host: str = "127.0.0.1"
    is_wide: bool = False
    needs_keys: bool = False
    tls: ssl.SSLContext | None = None
    pems: tuple[bytes, bytes, bytes | None] | None = None

    @property
    def has_inner(self) -> bool:
        """Whether the project's own processes have a door of their own."""
        return self.is_wide or self.tls is not None

    def scheme(self, plain: str) -> str:
        """What URLs of the door begin with, where they begin with ``plain`` without TLS."""
        return plain if self.tls is None else f"{plain}s"


def access_of(config: Config, door: DoorSection) -> Access:
    """How ``mainspring.toml`` opens a door.

    Raises:
        UnavailableError: Nothing can listen on its host (MS-S002).
        ConfigError: The certificate cannot be used (MS-C097).
    """
    wide = not is_loopback(door.host)
    if wide:
        check_here(door.host)
    tls, pems = (None, None) if config.tls is None else _tls(config)
    return Access(door.host, wide, wide or door.keys, tls, pems)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tls(config: Config) -> tuple[ssl.SSLContext, tuple[bytes, bytes, bytes | None]]:
    section = config.tls
    if section is None:
        raise ValueError("no [tls]")
    cert, key = config.root / section.cert, config.root / section.key
    authority = config.root / section.client_ca if section.client_ca else None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(cert, key)
        if authority is not None:
            context.load_verify_locations(authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context, (key.read_bytes(), cert.read_bytes(), _bytes_of(authority))
    except (OSError, ssl.SSLError) as error:
        where = f"[tls] in {config.root / 'mainspring.toml'}"
        hint = "cert and key are PEM files, relative to the project's folder"
        raise ConfigError("MS-C097", f"the certificate cannot be used: {error}", where=where, hint=hint) from None


def _bytes_of(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
