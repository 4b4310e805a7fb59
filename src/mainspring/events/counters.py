"""How numbers lie among the log's counters."""

from __future__ import annotations

import struct

CELL = struct.Struct("<q")
COUNTS = struct.Struct("<4Q")
"""Of a source: accepted, duplicate, quarantined, mended."""
SENT = struct.Struct("<Qq")
"""Of a deprecated column: how often it came, and when it last did."""
DEPRECATED = b"deprecated:"
"""Before the name of such a column."""
