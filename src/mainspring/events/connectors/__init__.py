"""Connectors: what brings rows in from files, databases, web services and brokers. See docs/reference/connectors.md."""

from mainspring.events.connectors.connector import WAIT_S, Arrival, Batch, Connector, Settings, Site
from mainspring.events.connectors.declared import KINDS, Declared, declared, one_declared

__all__ = [
    "KINDS",
    "WAIT_S",
    "Arrival",
    "Batch",
    "Connector",
    "Declared",
    "Settings",
    "Site",
    "declared",
    "one_declared",
]
