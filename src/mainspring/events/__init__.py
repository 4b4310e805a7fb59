"""Events: contracts and row checks, quarantine, the log and its one appender, the lake, and what brings events in."""

from mainspring.events.contract import Contract, Row
from mainspring.events.held import Held, Reject
from mainspring.events.log import Ack, Counts, Draft, Log
from mainspring.events.record import Record, Shape
from mainspring.events.system import DECISION, PREDICTION, SYSTEM_SOURCES, all_sources

__all__ = [
    "DECISION",
    "PREDICTION",
    "SYSTEM_SOURCES",
    "Ack",
    "Contract",
    "Counts",
    "Draft",
    "Held",
    "Log",
    "Record",
    "Reject",
    "Row",
    "Shape",
    "all_sources",
]
