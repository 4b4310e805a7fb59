"""A process's keyring kept as the catalog has it."""

from __future__ import annotations

import asyncio
import logging

from mainspring.catalog.catalog import Catalog
from mainspring.core.access import Access
from mainspring.core.config import Config
from mainspring.core.errors import RefusedError
from mainspring.core.keys import Keyring, Rates
from mainspring.core.run import internal_token

LOOK_S = 0.5
_log = logging.getLogger(__name__)


class KeptKeyring:
    """The keyring of a door that needs keys; it takes up what is made or revoked within half a second.

    Args:
        config: The project's settings.
        access: Of the door.
        says_door: Name of the door, for the process that says of it that it is open without TLS; empty for the others.

    Raises:
        RefusedError: Others would reach the door and there is no key (MS-S001).
    """

    def __init__(self, config: Config, access: Access, says_door: str = "") -> None:
        self.ring = Keyring(internal_token(config.run), Rates(config.run / "rates"))
        self._catalog = Catalog.open(config.catalog_url)
        self._seen = -1
        self._look()
        if access.is_wide and not self.ring:
            self._catalog.close()
            raise RefusedError(
                "MS-S001",
                f"refusing to listen on {access.host!r}",
                why="anybody who reaches it could read and write everything: there is no key",
                hint='mainspring keys create NAME --scope predict:MODEL, or host = "127.0.0.1" in mainspring.toml',
            )
        if access.is_wide and access.tls is None and says_door:
            what = "the %s, on %s, is open to others without TLS: keys and data can be read on the way"
            _log.warning(what, says_door, access.host)
        self._task = asyncio.ensure_future(self._follow())

    def close(self) -> None:
        """Follow no more."""
        self._task.cancel()
        self._catalog.close()

    def _look(self) -> None:
        changes = self._catalog.key_changes()
        if changes != self._seen:
            self.ring.use(self._catalog.listed_keys())
            self._seen = changes

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await asyncio.to_thread(self._look)
            except Exception:  # noqa: BLE001  the keys that were good a moment ago stay so; it is reported
                _log.exception("the keys cannot be read")
