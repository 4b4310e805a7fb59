"""A temporal split: the test rows are the last ones, and nothing that was not yet known at the cut trains the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import RefusedError

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows by what they are for.

    Attributes:
        cut_us: Test rows are those at or after it.
        train: Rows before the cut whose label was mature at the cut.
        test: Rows at or after the cut.
        purged: How many rows before the cut were left out, because their label was not known then.
    """

    cut_us: int
    train: Mask
    test: Mask
    purged: int


def temporal(
    time_us: npt.NDArray[np.int64],
    mature_at_us: npt.NDArray[np.int64],
    *,
    test_share: float = 0.2,
    not_before_us: int | None = None,
    least_test_rows: int = 500,
) -> Split:
    """Cut where ``test_share`` of the rows lie behind, rows of one moment together.

    Args:
        time_us: Moment of each row, int64[n], rising.
        mature_at_us: When each row's label was mature, int64[n].
        test_share: Share of rows for the test.
        not_before_us: Cut no earlier than this, as long as ``least_test_rows`` remain: the end of what the champion has
            seen, so that both are asked about rows that are new to them.
        least_test_rows: See ``not_before_us``.

    Raises:
        RefusedError: One side would be empty (MS-T101).
    """
    rows = len(time_us)
    cut_us = int(time_us[min(rows - 1, int(rows * (1 - test_share)))]) if rows else 0
    if (
        not_before_us is not None
        and not_before_us > cut_us
        and np.count_nonzero(time_us >= not_before_us) >= least_test_rows
    ):
        cut_us = not_before_us
    test = time_us >= cut_us
    train = ~test & (mature_at_us <= cut_us)
    if not train.any() or not test.any():
        why = f"{rows} rows, of which {int(train.sum())} have a label that was known at the cut"
        raise RefusedError(
            "MS-T101",
            "too few rows for a temporal split",
            why=why,
            hint="mainspring ingest FILE --source SOURCE, with more history",
        )
    return Split(cut_us, train, test, int((~test).sum() - train.sum()))
