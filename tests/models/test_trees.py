"""Trees evaluated by compiled code answer as ONNX Runtime does, and what is no sum of trees is left to that."""

import logging
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMClassifier, LGBMRegressor
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mainspring.core import PackageError
from mainspring.models import InputColumn, Runtime, Signature, convert, oracle
from mainspring.models.session import ask, open_session
from mainspring.models.walk import ROWS, sweep, walk

APART = 2.0**-22
ODD = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1e-35, 3.4028235e38, -3.4028235e38)
WIDTH = 3
NUMBERS = Signature(tuple(InputColumn(f"f{i}", "number") for i in range(WIDTH)), "value")
floats = st.one_of(st.sampled_from(ODD), st.floats(-2, 2, width=32), st.floats(width=32))
thresholds = st.one_of(
    st.sampled_from(ODD[1:]), st.sampled_from([-1.0, 0.5, 1.0]), st.floats(width=32, allow_nan=False)
)
weights = st.floats(-1e6, 1e6, width=32)


def model_of(nodes, constants=(), signature=NUMBERS):
    """A model that ONNX Runtime loads, as a package's is made."""
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.FLOAT, [None, len(signature.numbers)])]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [None])
    flat = numpy_helper.from_array(np.array([-1], np.int64), "flat")
    graph = helper.make_graph(list(nodes), "test", inputs, [output], [flat, *constants])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def ensemble(said, source="numbers", target="sum"):
    return helper.make_node("TreeEnsembleRegressor", [source], [target], domain="ai.onnx.ml", **said)


def ending(link=None):
    if link is None:
        return [helper.make_node("Reshape", ["sum", "flat"], ["output"])]
    return [helper.make_node(link, ["sum"], ["linked"]), helper.make_node("Reshape", ["linked", "flat"], ["output"])]


@st.composite
def forests(draw, modes=("BRANCH_LEQ", "BRANCH_LT")):
    """Attributes of an ensemble of a few trees of any shape, their nodes in any order but for the root."""
    said = {f"nodes_{name}": [] for name in ("treeids", "nodeids", "featureids", "modes", "values")}
    said |= {f"nodes_{name}": [] for name in ("truenodeids", "falsenodeids", "missing_value_tracks_true")}
    said |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(draw(st.integers(1, 11))):
        kids = {0: None}
        for _ in range(draw(st.integers(0 if tree else 1, 9))):
            leaf = draw(st.sampled_from([node for node, both in kids.items() if both is None]))
            both = [len(kids), len(kids) + 1]
            kids[leaf] = draw(st.permutations(both))
            kids |= dict.fromkeys(both)
        for node, both in sorted(kids.items()):
            said["nodes_treeids"].append(tree)
            said["nodes_nodeids"].append(node)
            said["nodes_featureids"].append(draw(st.integers(0, WIDTH - 1)) if both else 0)
            said["nodes_modes"].append(draw(st.sampled_from(modes)) if both else "LEAF")
            said["nodes_values"].append(draw(thresholds) if both else 0.0)
            said["nodes_truenodeids"].append(both[0] if both else 0)
            said["nodes_falsenodeids"].append(both[1] if both else 0)
            said["nodes_missing_value_tracks_true"].append(draw(st.integers(0, 1)) if both else 0)
            if both is None:
                for name, value in (("treeids", tree), ("nodeids", node), ("ids", 0), ("weights", draw(weights))):
                    said[f"target_{name}"].append(value)
    base = {"base_values": [draw(weights)]} if draw(st.booleans()) else {}
    return said | base | {"n_targets": 1}


def beside(said, rows):
    """Rows of any numbers, with thresholds and the floats beside them among these."""
    cuts = np.array(said["nodes_values"], np.float32)
    with np.errstate(over="ignore", under="ignore"):
        ends = [cuts, *(np.nextafter(cuts, np.float32(end)) for end in (-np.inf, np.inf))]
    at = np.random.default_rng(len(cuts)).choice(np.concatenate([*ends, np.array(ODD, np.float32)]), (60, WIDTH))
    return np.concatenate([np.array(rows, np.float32).reshape(-1, WIDTH), at])


def no_texts(numbers):
    return np.empty((len(numbers), 0), np.object_)


def onnx_runtime(graph, numbers, texts=None):
    """What ONNX Runtime says of each row alone, and of all together."""
    texts = no_texts(numbers) if texts is None else texts
    session = open_session(graph)
    alone = [ask(session, ["output"], numbers[i : i + 1], texts[i : i + 1])[0] for i in range(len(numbers))]
    return np.concatenate(alone).astype(np.float64), ask(session, ["output"], numbers, texts)[0].astype(np.float64)


def asks_the_impossible(said):
    """Whether a split asks what is less than minus infinity."""
    splits = zip(said["nodes_modes"], said["nodes_values"], strict=True)
    return any(mode == "BRANCH_LT" and value == -np.inf for mode, value in splits)


@settings(max_examples=150, deadline=None)
@given(forests(), st.lists(st.tuples(*[floats] * WIDTH), max_size=8))
def test_any_forest_adds_its_leaves_bit_for_bit_as_onnx_runtime_does_of_one_row_and_of_many(said, rows):
    graph = model_of([ensemble(said), *ending()]).SerializeToString()
    runtime = Runtime(graph, NUMBERS)
    assert runtime.is_compiled != asks_the_impossible(said)
    numbers = beside(said, rows)
    together, texts = runtime.predict_matrix(numbers, no_texts(numbers)), no_texts(numbers)
    alone = [runtime.predict_matrix(numbers[i : i + 1], texts[i : i + 1]) for i in range(len(numbers))]
    for theirs in onnx_runtime(graph, numbers):
        assert np.array_equal(together, theirs)
        assert np.array_equal(np.concatenate(alone), theirs)


def grown(seed, sizes):
    """An ensemble of trees with so many leaves each, of shapes by chance."""
    rng = np.random.default_rng(seed)
    said = {"n_targets": 1}
    for tree, size in enumerate(sizes):
        kids, leaves = {}, [0]
        for _ in range(size - 1):
            node = leaves.pop(rng.integers(len(leaves)))
            kids[node] = [2 * len(kids) + 1, 2 * len(kids) + 2]
            leaves += kids[node]
        nodes = range(2 * size - 1)
        each = {
            "nodes_treeids": [tree] * len(nodes),
            "nodes_nodeids": nodes,
            "nodes_featureids": [int(rng.integers(WIDTH)) if i in kids else 0 for i in nodes],
            "nodes_modes": ["BRANCH_LEQ" if i in kids else "LEAF" for i in nodes],
            "nodes_values": rng.normal(size=len(nodes)).astype(np.float32).tolist(),
            "nodes_truenodeids": [kids[i][0] if i in kids else 0 for i in nodes],
            "nodes_falsenodeids": [kids[i][1] if i in kids else 0 for i in nodes],
            "nodes_missing_value_tracks_true": rng.integers(0, 2, len(nodes)).tolist(),
            "target_treeids": [tree] * size,
            "target_nodeids": sorted(leaves),
            "target_ids": [0] * size,
            "target_weights": rng.normal(size=size).astype(np.float32).tolist(),
        }
        for name, values in each.items():
            said.setdefault(name, []).extend(values)
    return said


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(2, 150), min_size=1, max_size=9), st.integers(1, 50))
def test_walked_and_swept_trees_of_many_leaves_answer_bit_for_bit_as_onnx_runtime_does(seed, sizes, rows):
    said = grown(seed, sizes)
    model = model_of([ensemble(said), *ending()])
    trees, _ = oracle.read(model.graph)
    numbers = beside(said, [])[:rows]
    theirs = onnx_runtime(model.SerializeToString(), numbers)[0]
    for way, plan in ((walk, trees.plan), (sweep, trees.sweeping)):
        out = np.full(rows, np.nan)
        way(numbers, plan, out)
        assert np.array_equal(out, theirs)
    assert np.array_equal(trees.predict(numbers, no_texts(numbers)), theirs)


@settings(max_examples=40, deadline=None)
@given(forests(), st.sampled_from(["Sigmoid", "Exp"]))
def test_the_link_is_within_two_units_of_the_last_place(said, link):
    said = said | {"target_weights": [weight / 1e5 for weight in said["target_weights"]], "base_values": [0.0]}
    said["nodes_modes"] = [mode.replace("LT", "LEQ") for mode in said["nodes_modes"]]
    graph = model_of([ensemble(said), *ending(link)]).SerializeToString()
    runtime = Runtime(graph, NUMBERS)
    assert runtime.is_compiled
    numbers = beside(said, [])
    ours, (alone, _) = runtime.predict_matrix(numbers, no_texts(numbers)), onnx_runtime(graph, numbers)
    scale = 1.0 if link == "Sigmoid" else np.maximum(alone, APART)
    both = np.isfinite(alone) & np.isfinite(ours)
    assert (np.abs(ours - alone) <= APART * scale)[both].all()
    assert np.array_equal(ours[~both], alone[~both])
    assert np.array_equal(ours, ours.astype(np.float32))


def fitted(kind, seed, rows=400):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, WIDTH)).round(1).astype(np.float32)
    if kind.startswith("LGBM"):
        X[rng.random(X.shape) < 0.1] = np.nan
    y = np.nan_to_num(X).sum(axis=1) + rng.normal(size=rows)
    trees = {"n_estimators": 20, "random_state": seed}
    makers = {
        "LGBMClassifier": lambda: LGBMClassifier(**trees, num_leaves=int(rng.integers(2, 40)), verbose=-1, n_jobs=1),
        "LGBMRegressor": lambda: LGBMRegressor(**trees, objective="poisson", verbose=-1, n_jobs=1),
        "RandomForestRegressor": lambda: RandomForestRegressor(**trees),
        "ExtraTreesRegressor": lambda: ExtraTreesRegressor(**trees, max_depth=int(rng.integers(1, 9))),
        "GradientBoostingRegressor": lambda: GradientBoostingRegressor(**trees),
        "RandomForestClassifier": lambda: RandomForestClassifier(**trees),
        "ExtraTreesClassifier": lambda: ExtraTreesClassifier(**trees, max_depth=int(rng.integers(1, 9))),
        "GradientBoostingClassifier": lambda: GradientBoostingClassifier(**trees),
        "LGBM in a pipeline": lambda: make_pipeline(FunctionTransformer(), LGBMClassifier(**trees, verbose=-1)),
    }
    estimator = makers[kind]()
    is_class = kind.endswith(("Classifier", "pipeline"))
    estimator.fit(X, y > 0 if is_class else np.abs(y))
    return estimator, Signature(NUMBERS.inputs, "probability" if is_class else "value"), X


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "kind",
    [
        "LGBMClassifier",
        "LGBMRegressor",
        "LGBM in a pipeline",
        "RandomForestRegressor",
        "ExtraTreesRegressor",
        "GradientBoostingRegressor",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
        "GradientBoostingClassifier",
    ],
)
def test_a_converted_estimator_is_compiled_and_answers_as_onnx_runtime_does(kind, seed):
    estimator, signature, X = fitted(kind, seed)
    graph = convert(estimator, signature, "m").SerializeToString()
    runtime = Runtime(graph, signature)
    assert runtime.is_compiled
    numbers = np.concatenate([X, np.random.default_rng(0).choice(np.array(ODD, np.float32), (200, WIDTH))])
    ours, (alone, together) = runtime.predict_matrix(numbers, no_texts(numbers)), onnx_runtime(graph, numbers)
    assert ours == pytest.approx(alone, rel=APART, abs=APART)
    assert ours == pytest.approx(together, rel=APART, abs=APART)


def test_texts_are_looked_up_as_the_graph_does_also_unseen_and_missing_ones(table):
    estimator = LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1).fit(table.X, table.y)
    graph = convert(estimator, table.signature, "m").SerializeToString()
    runtime = Runtime(graph, table.signature)
    assert runtime.is_compiled
    numbers = table.signature.numbers_matrix(table.columns)[:300].copy()
    texts = table.signature.texts_matrix(table.columns)[:300].copy()
    texts[::5], texts[1::7, 0] = "never seen", table.signature.missing_text
    assert runtime.predict_matrix(numbers, texts) == pytest.approx(onnx_runtime(graph, numbers, texts)[0], abs=APART)
    only = estimator.fit(table.X[["dest", "origin"]], table.y)
    signature = table.signature.part(["dest", "origin"])
    graph = convert(only, signature, "m").SerializeToString()
    runtime = Runtime(graph, signature)
    assert runtime.is_compiled
    none = np.empty((300, 0), np.float32)
    assert runtime.predict_matrix(none, texts) == pytest.approx(onnx_runtime(graph, none, texts)[0], abs=APART)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_the_answer_to_a_row_does_not_depend_on_the_rows_beside_it(compiled, seed, sizes):
    runtime, X = compiled
    rng = np.random.default_rng(seed)
    whole = runtime.predict_matrix(X, no_texts(X))
    for size in sizes:
        rows = rng.integers(0, len(X), size)
        some = X[rows]
        assert np.array_equal(runtime.predict_matrix(some, no_texts(some)), whole[rows])


@pytest.fixture(scope="module")
def compiled():
    estimator, signature, X = fitted("LGBMClassifier", 3, 5_000)
    return Runtime(convert(estimator, signature, "m").SerializeToString(), signature), X


def test_matrices_of_any_order_and_such_as_cannot_be_written_are_answered_and_left_as_they_are(compiled):
    runtime, X = compiled
    whole = runtime.predict_matrix(X, no_texts(X))
    fixed = np.frombuffer(X.tobytes(), np.float32).reshape(X.shape)
    before = X.copy()
    for same in (np.asfortranarray(X), fixed, np.repeat(X, 2, axis=0)[::2]):
        assert np.array_equal(runtime.predict_matrix(same, no_texts(X)), whole)
    assert np.array_equal(X, before, equal_nan=True)
    assert runtime.predict_matrix(X[:0], no_texts(X[:0])).shape == (0,)


@pytest.mark.parametrize(
    "numbers", [np.zeros((2, WIDTH + 1), np.float32), np.zeros((2, WIDTH)), np.zeros(WIDTH, np.float32)]
)
def test_what_is_no_matrix_of_the_model_is_refused_and_nothing_is_read_beside_it(compiled, numbers):
    with pytest.raises(PackageError, match="MS-M122"):
        compiled[0].predict_matrix(numbers, np.empty((len(numbers), 0), np.object_))


def test_threads_share_a_model(compiled):
    runtime, X = compiled
    whole = runtime.predict_matrix(X, no_texts(X))
    same = []

    def work():
        same.extend(np.array_equal(runtime.predict_matrix(X, no_texts(X)), whole) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(same) == 80
    assert all(same)


STUMP = {
    "n_targets": 1,
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "target_treeids": [0, 0],
    "target_nodeids": [1, 2],
    "target_ids": [0, 0],
    "target_weights": [1.0, 2.0],
}


def chain(depth):
    """A tree with one split on each level."""
    inner = [2 * i for i in range(depth)]
    modes = ["BRANCH_LEQ" if i in inner else "LEAF" for i in range(2 * depth + 1)]
    leaves = [i for i, mode in enumerate(modes) if mode == "LEAF"]
    return {
        "n_targets": 1,
        "nodes_treeids": [0] * len(modes),
        "nodes_nodeids": list(range(len(modes))),
        "nodes_featureids": [i % WIDTH if i in inner else 0 for i in range(len(modes))],
        "nodes_modes": modes,
        "nodes_values": [float(i) if i in inner else 0.0 for i in range(len(modes))],
        "nodes_truenodeids": [i + 1 if i in inner else 0 for i in range(len(modes))],
        "nodes_falsenodeids": [i + 2 if i in inner else 0 for i in range(len(modes))],
        "target_treeids": [0] * len(leaves),
        "target_nodeids": leaves,
        "target_ids": [0] * len(leaves),
        "target_weights": [float(i) for i in leaves],
    }


@pytest.mark.parametrize(
    ("said", "is_compiled"),
    [
        (STUMP, True),
        (chain(31), True),
        (chain(32), True),
        (chain(64), True),
        (chain(65), False),
        (STUMP | {"nodes_modes": ["BRANCH_GT", "LEAF", "LEAF"]}, False),
        (STUMP | {"nodes_values": [np.nan, 0.0, 0.0]}, False),
        (STUMP | {"aggregate_function": "MAX"}, False),
        (STUMP | {"post_transform": "LOGISTIC"}, False),
        (STUMP | {"target_nodeids": [1, 1]}, False),
    ],
    ids=[
        "stump",
        "32 leaves",
        "33 leaves",
        "64 levels",
        "65 levels",
        "greater",
        "no number",
        "greatest tree",
        "link within",
        "leaf of two values",
    ],
)
def test_trees_of_another_kind_are_left_to_onnx_runtime_and_answered(said, is_compiled):
    graph = model_of([ensemble(said), *ending()]).SerializeToString()
    runtime = Runtime(graph, NUMBERS)
    assert runtime.is_compiled is is_compiled
    numbers = beside(said, [])
    theirs = onnx_runtime(graph, numbers)[1]
    assert np.array_equal(runtime.predict_matrix(numbers, no_texts(numbers)), theirs)
    assert np.array_equal(runtime.predict_matrix(numbers[:1], no_texts(numbers[:1])), theirs[:1])


def other_graphs():
    two = numpy_helper.from_array(np.array(2.0, np.float32), "two")
    yield "scaled", model_of([ensemble(STUMP), helper.make_node("Mul", ["sum", "two"], ["twice"]),
        helper.make_node("Reshape", ["twice", "flat"], ["output"])], [two])  # fmt: skip
    yield "sigmoid twice", model_of([ensemble(STUMP), helper.make_node("Sigmoid", ["sum"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["b"]), helper.make_node("Reshape", ["b", "flat"], ["output"])])  # fmt: skip
    yield "prepared", model_of([helper.make_node("Mul", ["numbers", "two"], ["twice"]), ensemble(STUMP, "twice"),
        *ending()], [two])  # fmt: skip


@pytest.mark.parametrize(("name", "model"), list(other_graphs()))
def test_a_graph_with_other_steps_is_left_to_onnx_runtime(name, model):
    graph = model.SerializeToString()
    runtime = Runtime(graph, NUMBERS)
    assert not runtime.is_compiled
    numbers = beside(STUMP, [])
    assert np.array_equal(
        runtime.predict_matrix(numbers, no_texts(numbers)), onnx_runtime(graph, numbers)[1], equal_nan=True
    )


def of_classes(said, transform):
    """A model that adds a forest's leaves as a classifier of two classes does."""
    said = {name.replace("target_", "class_"): value for name, value in said.items() if name != "n_targets"}
    said |= {"classlabels_int64s": [0, 1], "post_transform": transform}
    forest = helper.make_node("TreeEnsembleClassifier", ["numbers"], ["label", "both"], domain="ai.onnx.ml", **said)
    true = numpy_helper.from_array(np.array([1], np.int64), "true")
    nodes = [forest, helper.make_node("Gather", ["both", "true"], ["sum"], axis=1), *ending()]
    return model_of(nodes, [true]).SerializeToString()


@settings(max_examples=50, deadline=None)
@given(forests(), st.lists(st.tuples(*[floats] * WIDTH), max_size=8))
def test_any_forest_of_two_classes_adds_its_leaves_bit_for_bit_as_onnx_runtime_does(said, rows):
    graph, numbers = of_classes(said, "NONE"), beside(said, rows)
    runtime = Runtime(graph, NUMBERS)
    assert runtime.is_compiled != asks_the_impossible(said)
    alone, together = onnx_runtime(graph, numbers)
    assert np.array_equal(runtime.predict_matrix(numbers, no_texts(numbers)), together, equal_nan=True)
    assert np.array_equal(alone, together, equal_nan=True)
    linked = of_classes(said, "LOGISTIC")
    ours = Runtime(linked, NUMBERS).predict_matrix(numbers, no_texts(numbers))
    assert ours == pytest.approx(onnx_runtime(linked, numbers)[1], abs=APART, nan_ok=True)


def changed(change):
    """The graph of a classifier, changed, and its signature."""
    estimator, signature, _ = fitted("GradientBoostingClassifier", 1)
    model = convert(estimator, signature, "m")
    (forest,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    change(model.graph, {one.name: one for one in forest.attribute}, forest)
    return model.SerializeToString(), signature


def of_both_classes(_graph, said, _forest):
    said["class_ids"].ints[::2] = [1] * len(said["class_ids"].ints[::2])


def of_another_link(_graph, said, _forest):
    said["post_transform"].s = b"SOFTMAX"  # of PROBIT ONNX Runtime answers twice otherwise, now and then


def of_false(graph, _said, _forest):
    (at,) = (one for one in graph.initializer if one.name == "ms_true")
    at.CopyFrom(numpy_helper.from_array(np.array([0], np.int64), at.name))


def of_two_links(graph, _said, _forest):
    last = graph.node[-1]
    graph.node.insert(len(graph.node) - 1, helper.make_node("Sigmoid", [last.input[0]], ["again"]))
    graph.node[-1].input[0] = "again"


@pytest.mark.parametrize("change", [of_both_classes, of_another_link, of_false, of_two_links])
def test_other_forests_of_classes_are_left_to_onnx_runtime(change):
    graph, signature = changed(change)
    runtime = Runtime(graph, signature)
    assert not runtime.is_compiled
    numbers = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    answered = runtime.predict_matrix(numbers, no_texts(numbers))
    assert np.array_equal(answered, onnx_runtime(graph, numbers)[1], equal_nan=True)


def test_probabilities_are_those_of_the_classifier_itself():
    for kind in ("RandomForestClassifier", "ExtraTreesClassifier", "GradientBoostingClassifier"):
        estimator, signature, X = fitted(kind, 3)
        runtime = Runtime(convert(estimator, signature, "m").SerializeToString(), signature)
        assert runtime.is_compiled
        assert runtime.predict_matrix(X, no_texts(X)) == pytest.approx(estimator.predict_proba(X)[:, 1], abs=1e-6)


@pytest.mark.parametrize(("plan", "place"), [("plan", -4), ("sweeping", -33)])
def test_trees_that_answer_otherwise_than_onnx_runtime_are_not_adopted(monkeypatch, caplog, plan, place):
    read = oracle.read

    def misread(graph):
        trees, total = read(graph)
        assert 1 < trees.sweeps_from <= ROWS  # a row alone is walked, many are swept
        getattr(trees, plan)[place] ^= 1  # the last bit of a leaf's value
        return trees, total

    said = grown(3, [20] * 8 + [2])
    graph = model_of([ensemble(said), *ending("Sigmoid")]).SerializeToString()
    assert Runtime(graph, NUMBERS).is_compiled
    monkeypatch.setattr(oracle, "read", misread)
    with caplog.at_level(logging.WARNING):
        runtime = Runtime(graph, NUMBERS)
    assert not runtime.is_compiled
    assert not caplog.records
    numbers = beside(said, [])
    assert np.array_equal(runtime.predict_matrix(numbers, no_texts(numbers)), onnx_runtime(graph, numbers)[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_graph_is_refused_or_answered_as_onnx_runtime_does(data):
    model = model_of([ensemble(chain(4)), *ending()])
    attributes = {one.name: one for one in model.graph.node[0].attribute}
    name = data.draw(st.sampled_from(["nodes_truenodeids", "nodes_falsenodeids", "nodes_featureids", "target_nodeids"]))
    values = attributes[name].ints
    values[data.draw(st.integers(0, len(values) - 1))] = data.draw(
        st.integers(0, 8 if name != "nodes_featureids" else 2)
    )
    graph = model.SerializeToString()
    try:
        session = open_session(graph)
    except PackageError:
        with pytest.raises(PackageError, match="MS-M121"):
            Runtime(graph, NUMBERS)
        return
    runtime = Runtime(graph, NUMBERS)
    if runtime.is_compiled:  # otherwise it is ONNX Runtime that answers, of what may have no end
        numbers = beside(chain(4), [])
        theirs = ask(session, ["output"], numbers, no_texts(numbers))[0]
        assert np.array_equal(runtime.predict_matrix(numbers, no_texts(numbers)), theirs)


def test_a_graph_that_goes_in_a_circle_is_refused():
    circle = [helper.make_node("Identity", [one], [other]) for one, other in (("sum", "again"), ("again", "sum"))]
    with pytest.raises(PackageError, match="MS-M121"):
        Runtime(model_of([*circle, *ending()]).SerializeToString(), NUMBERS)


def test_a_graph_that_was_cut_is_refused():
    graph = model_of([ensemble(STUMP), *ending()]).SerializeToString()
    with pytest.raises(PackageError, match="MS-M121"):
        Runtime(graph[: len(graph) // 2], NUMBERS)


def test_a_session_is_not_kept_beside_compiled_trees(compiled):
    assert compiled[0]._session is None


def test_importing_models_loads_no_compiler_and_what_is_warm_compiles_nothing_with_the_first_model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_of([ensemble(STUMP), *ending("Sigmoid")]).SerializeToString())
    code = """
import sys
from pathlib import Path
from mainspring.models import InputColumn, Runtime, Signature
assert not {"numba", "onnx", "onnxruntime"} & sys.modules.keys()
Runtime.warm_up()
from mainspring.features.compiled import DISPATCHERS
before = len(DISPATCHERS)
columns = tuple(InputColumn(f"f{i}", "number") for i in range(3))
assert Runtime(Path(sys.argv[1]).read_bytes(), Signature(columns, "value")).is_compiled
assert len(DISPATCHERS) == before > 0
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
