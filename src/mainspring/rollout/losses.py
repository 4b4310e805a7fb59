"""Bounded proper losses: what a challenger is compared by.

Each loss comes with the bound B of the difference D = loss_challenger - loss_champion, which the e-processes need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import DefinitionError
from mainspring.core.names import did_you_mean

FloatArray = NDArray[np.float64]
EPS = 0.01


@dataclass(frozen=True)
class Loss:
    """A loss and its bound.

    Attributes:
        function: ``(predictions, outcomes) -> losses``, all of shape (n,).
        bound: The largest possible absolute difference between the losses of two predictions of one outcome.
    """

    function: Callable[[FloatArray, FloatArray], FloatArray]
    bound: float

    def difference(self, p_challenger: FloatArray, p_champion: FloatArray, y: FloatArray) -> FloatArray:
        """D, shape (n,): positive where the challenger is worse."""
        return self.function(p_challenger, y) - self.function(p_champion, y)


def log_loss(p: FloatArray, y: FloatArray, eps: float = EPS) -> FloatArray:
    """Minus the log likelihood of each outcome (0 or 1), with ``p`` clipped to [eps, 1 - eps].

    >>> log_loss(np.array([0.5, 1.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.6931, 4.6052]
    """
    clipped = np.clip(p, eps, 1.0 - eps)
    return np.asarray(-np.log(np.where(y > 0.5, clipped, 1.0 - clipped)), dtype=np.float64)


def brier(p: FloatArray, y: FloatArray) -> FloatArray:
    """Squared distance of each probability (clipped to [0, 1]) from its outcome (0 or 1)."""
    return np.asarray(np.square(np.clip(p, 0.0, 1.0) - y), dtype=np.float64)


def zero_one(p: FloatArray, y: FloatArray) -> FloatArray:
    """1 where the outcome (0 or 1) is on the other side of one half; exactly one half counts as 1."""
    return np.asarray((p >= 0.5) != (y > 0.5), dtype=np.float64)


def absolute_error(p: FloatArray, y: FloatArray, bound: float) -> FloatArray:
    """Absolute error of each prediction, winsorised at ``bound`` (units of the label)."""
    return np.asarray(np.minimum(np.abs(p - y), bound), dtype=np.float64)


LOSSES: dict[str, Loss] = {
    "log_loss": Loss(log_loss, log((1.0 - EPS) / EPS)),
    "brier": Loss(brier, 1.0),
    "zero_one": Loss(zero_one, 1.0),
}
"""Losses of binary classification by name. ``absolute_error`` needs a bound of its own: see `loss_named`."""


def loss_named(metric: str, bound: float | None = None) -> Loss:
    """The loss of that name.

    Args:
        metric: A key of `LOSSES`, or ``absolute_error``.
        bound: Where ``absolute_error`` is winsorised, in units of the label.

    Raises:
        DefinitionError: ``MS-R101`` for an unknown name, ``MS-R102`` for ``absolute_error`` without a positive bound.
    """
    if metric == "absolute_error":
        if bound is None or not bound > 0:
            raise DefinitionError(
                "MS-R102",
                "absolute_error has no bound",
                why="evidence on a loss holds only if the loss is bounded",
                hint='ms.guard("absolute_error", margin=..., bound=...): errors above the bound count as the bound',
            )
        return Loss(partial(absolute_error, bound=bound), bound)
    if metric not in LOSSES:
        names = [*LOSSES, "absolute_error"]
        raise DefinitionError(
            "MS-R101",
            f"{metric!r} is not a loss of single predictions",
            why=f"a rollout is proved on one of {', '.join(names)}",
            hint=did_you_mean(metric, names),
        )
    return LOSSES[metric]


def plain_loss(metric: str) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """``(predictions, outcomes) -> losses`` of that name without a bound, for averages: they need none.

    Raises:
        DefinitionError: ``MS-R101`` for an unknown name.
    """
    return loss_named(metric, inf).function
