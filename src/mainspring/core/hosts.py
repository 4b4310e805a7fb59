"""What a door may listen on: an address or a host name, of this machine."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket

from mainspring.core.errors import ConfigError, UnavailableError

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?![0-9]+\Z){_LABEL}", re.IGNORECASE)
"""RFC 1123, and the underscore of container names; a last part of digits alone is an address that went wrong."""
_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]+):(?P<port>[0-9]{1,5})")
_ANY = 'host = "127.0.0.1" for this machine alone, "0.0.0.0" or "::" for all of its addresses'
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def is_address(host: str) -> bool:
    """Whether a host is an IP address.

    >>> is_address("::1"), is_address("[::1]"), is_address("256.1.1.1")
    (True, False, False)
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_host(host: str, setting: str, where: str) -> None:
    """Refuse what is neither an address nor a plain host name; whether it is known, ``check_here`` finds out.

    Args:
        host: As it is written.
        setting: What it was written for: ``gateway.host``.
        where: The file.

    Raises:
        ConfigError: It is neither (MS-C004).

    >>> check_host("ml.example.com", "gateway.host", "mainspring.toml")
    """
    if is_address(host) or _NAME.fullmatch(host):
        return
    what = f"{setting} = {host!r} is neither an address nor the name of a host"
    raise ConfigError("MS-C004", what, where=where, hint=_meant(host))


def check_here(host: str) -> None:
    """Refuse a host that nothing can listen on: nobody knows it, or it is another machine.

    Raises:
        UnavailableError: It is such a one (MS-S002).
    """
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, _, _, address in found:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
    except OSError as error:
        raise cannot_listen(host, 0, error) from None


def cannot_listen(host: str, port: int, error: OSError) -> UnavailableError:
    """What is said where a door cannot be opened, with the way out that there is (MS-S002)."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    hint = "stop what listens there, or set another port in mainspring.toml"
    if isinstance(error, socket.gaierror) or error.errno in _NOT_HERE:
        where, hint = host, f"host in mainspring.toml is an address or a name of this machine: {_ANY}"
    elif error.errno == errno.EACCES:
        hint = "set a port of 1024 or more in mainspring.toml: those below are the administrator's"
    return UnavailableError("MS-S002", f"cannot listen on {where}", why=str(error), hint=hint)


def _meant(host: str) -> str:
    bare = host.strip()
    with_port = _WITH_PORT.fullmatch(bare)
    if with_port is not None:
        return f'host = "{with_port["host"].strip("[]")}" and port = {with_port["port"]}'
    inner = bare.removeprefix("[").removesuffix("]")
    return f'host = "{inner}"' if is_address(inner) else _ANY
