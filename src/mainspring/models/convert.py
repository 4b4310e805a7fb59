"""A fitted estimator as an ONNX graph from raw columns, or a refusal that names it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import PackageError
from mainspring.models.forest import read
from mainspring.models.graph import forest_graph
from mainspring.models.signature import Signature

if TYPE_CHECKING:
    import onnx

FORESTS = ("LGBMClassifier", "LGBMRegressor")
_REFUSED = {
    "HistGradientBoostingClassifier": "LGBMClassifier",
    "HistGradientBoostingRegressor": "LGBMRegressor",
}


def convert(estimator: Any, signature: Signature, owner: str) -> onnx.ModelProto:
    """The whole path from raw columns to one output a row.

    Args:
        estimator: What the training function returned.
        signature: The columns that it was fitted on, and what it gives.
        owner: Name of the model, for errors.

    Raises:
        PackageError: No fitted estimator (MS-M100), one that cannot be packaged (MS-M101, MS-M102), fitted on other
            columns (MS-M105), or for another task (MS-M104).
    """
    check_estimator(estimator, signature, owner)
    if type(estimator).__name__ in FORESTS:
        return forest_graph(read(estimator, signature), signature)
    from mainspring.models.pipeline import pipeline_graph

    return pipeline_graph(estimator, signature, owner)


def check_estimator(estimator: Any, signature: Signature, owner: str) -> None:
    """Refuse, by name, what cannot be packaged.

    Raises:
        PackageError: No fitted estimator (MS-M100), a known trap (MS-M101), another task (MS-M104).
    """
    name = type(estimator).__name__
    hint = "return the fitted estimator: LGBMClassifier(…).fit(train.X, train.y), or a scikit-learn Pipeline"
    if not hasattr(estimator, "predict") or not hasattr(estimator, "fit"):
        raise PackageError("MS-M100", f"model {owner} returned a {name}, not a fitted estimator", hint=hint)
    for part in parts(estimator):
        kind = type(part).__name__
        if kind in _REFUSED:
            raise PackageError(
                "MS-M101",
                f"model {owner} uses {kind}, which cannot be packaged",
                why="skl2onnx does not convert it for this release of scikit-learn",
                hint=f"use {_REFUSED[kind]} from lightgbm: the same algorithm, and it reads text columns as they are",
            )
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError):
        raise PackageError("MS-M100", f"model {owner} returned a {name} that is not fitted", hint=hint) from None
    if signature.output == "value":
        if hasattr(estimator, "predict_proba"):
            raise PackageError("MS-M104", f"model {owner} is a regression and returned a classifier, {name}")
        return
    classes = [bool(c) for c in getattr(estimator, "classes_", ())]
    if not hasattr(estimator, "predict_proba") or classes != [False, True]:
        why = f"its classes are {classes}" if hasattr(estimator, "predict_proba") else "it has no predict_proba"
        raise PackageError("MS-M104", f"{name} of model {owner} gives no probability of True", why=why)


def parts(estimator: Any) -> Iterator[Any]:
    """The estimator and every estimator it holds, as given and as fitted (steps, transformers, members)."""
    seen: set[int] = set()
    queue = [estimator]
    for one in queue:  # grows while it is walked
        if isinstance(one, (list, tuple)):
            queue += one
        elif isinstance(one, dict):
            queue += one.values()
        elif hasattr(one, "get_params") and not isinstance(one, type) and id(one) not in seen:
            seen.add(id(one))
            yield one
            queue += vars(one).values()
