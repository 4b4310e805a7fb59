"""Clock, time spans, ids, errors and configuration: what every room needs and nothing of machine learning."""

from mainspring.core.clock import Clock, ManualClock, SharedClock, WallClock
from mainspring.core.config import Config, load_config
from mainspring.core.errors import (
    BackPressureError,
    ConfigError,
    ContractError,
    DefinitionError,
    FormatError,
    MainspringError,
    NotFoundError,
    PackageError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from mainspring.core.ids import content_hash, hash128, prediction_id
from mainspring.core.names import check_name, did_you_mean, is_name
from mainspring.core.spans import format_span, parse_span
from mainspring.core.times import from_datetime, parse_time, to_datetime, to_iso

__all__ = [
    "BackPressureError",
    "Clock",
    "Config",
    "ConfigError",
    "ContractError",
    "DefinitionError",
    "FormatError",
    "MainspringError",
    "ManualClock",
    "NotFoundError",
    "PackageError",
    "RefusedError",
    "SharedClock",
    "TooLargeError",
    "UnavailableError",
    "WallClock",
    "check_name",
    "content_hash",
    "did_you_mean",
    "format_span",
    "from_datetime",
    "hash128",
    "is_name",
    "load_config",
    "parse_span",
    "parse_time",
    "prediction_id",
    "to_datetime",
    "to_iso",
]
