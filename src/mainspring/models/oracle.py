"""Compiled trees are adopted once they have answered as ONNX Runtime does, which serves all other graphs.

Equal, bit for bit, is the sum of the leaves: both add them in float32, in the order of the trees. The link is within
``_APART``: ONNX Runtime computes sigmoid and exp by rational functions in float32, which are a few 1e-8 off the true
value; here it is the function in float64, rounded once.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from mainspring.models.ensemble import CLASSIFIER, read
from mainspring.models.session import ask, open_session
from mainspring.models.signature import MISSING_TEXT, Floats, Signature, Texts
from mainspring.models.thresholds import UNSEEN
from mainspring.models.trees import Trees
from mainspring.models.walk import IDENTITY, LOGISTIC

_APART = 2.0**-22
"""How far apart the links may be: two units of the last place of a probability near 1, or relative to a value."""
_PROBES = 512
_ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1e-35, 3e38], np.float32)
_log = logging.getLogger(__name__)


def adopted(graph: bytes, signature: Signature) -> Trees | None:
    """The trees of a graph, tried against ONNX Runtime; None if that is to be asked itself.

    Both are asked about rows of thresholds, their float32 neighbours, missing and infinite numbers, zeros and
    denormals, and of known, unseen and missing texts: about all at once, and the trees about each alone as well.
    """
    import onnx

    try:
        model = onnx.ModelProto.FromString(graph)
        found = read(model.graph)
        if found is None:
            return None
        trees, total = found
        numbers, texts = _probes(trees, signature)
        output, sums = _asked(model, total, numbers, texts)
        ours, plain = trees.predict(numbers, texts), trees.linked(IDENTITY)
        together = plain.predict(numbers, texts)
        alone = np.concatenate([plain.predict(numbers[i : i + 1], texts[i : i + 1]) for i in range(_PROBES)])
    except Exception:  # noqa: BLE001  whatever is strange about a graph, ONNX Runtime itself says it
        return None
    with np.errstate(invalid="ignore"):  # of infinite values
        scale = 1.0 if trees.link == LOGISTIC else np.maximum(np.abs(output), _APART)
        near = (ours == output) | (np.abs(ours - output) <= _APART * scale) | (np.isnan(ours) & np.isnan(output))
    if near.all() and all(np.array_equal(one, sums[:, -1], equal_nan=True) for one in (together, alone)):
        return trees
    _log.info("compiled trees answer differently: ONNX Runtime evaluates this model")
    return None


def _asked(model: Any, total: str, numbers: Floats, texts: Texts) -> list[Any]:
    """What ONNX Runtime answers, and the sum of the leaves, in the last column, without a classifier's own link."""
    from onnx import TensorProto, helper

    linked = [
        one
        for node in model.graph.node
        for one in node.attribute
        if node.op_type == CLASSIFIER and one.name == "post_transform" and one.s != b"NONE"
    ]
    said = ask(open_session(model.SerializeToString()), ["output"], numbers, texts) if linked else []
    for one in linked:
        one.s = b"NONE"
    model.graph.output.append(helper.make_tensor_value_info(total, TensorProto.FLOAT, [None, None]))
    wanted = [total] if linked else ["output", total]
    return said + ask(open_session(model.SerializeToString()), wanted, numbers, texts)


def _probes(trees: Trees, signature: Signature) -> tuple[Floats, Texts]:
    rng = np.random.default_rng(7)
    columns, thresholds = trees.splits()
    numbers = np.empty((_PROBES, len(signature.numbers)), np.float32)
    with np.errstate(over="ignore", under="ignore"):
        beside = [thresholds, *(np.nextafter(thresholds, np.float32(end)) for end in (-np.inf, np.inf))]
    for column in range(numbers.shape[1]):
        values = [*(values[columns == column] for values in beside), _ODD] if column < trees.numbers else [_ODD]
        numbers[:, column] = rng.choice(np.concatenate(values), _PROBES)
    texts = np.full((_PROBES, len(signature.texts)), signature.missing_text, np.object_)
    for one in trees.lookups:
        texts[:, one.at] = rng.choice([*one.codes, UNSEEN, MISSING_TEXT], _PROBES)
    return numbers, texts
