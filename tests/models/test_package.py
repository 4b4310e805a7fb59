"""A package is what its checksums say, or it is refused."""

import json

import msgspec
import numpy as np
import pytest
from lightgbm import LGBMClassifier

from mainspring.core import FormatError, PackageError
from mainspring.models import Constant, Meta, Runtime, constant_graph, convert, estimate, libraries, load, write


@pytest.fixture(scope="module")
def fitted(table):
    return LGBMClassifier(n_estimators=5, verbose=-1).fit(table.X, table.y)


@pytest.fixture
def package(table, fitted, tmp_path):
    return packaged(table, fitted, tmp_path)


def packaged(table, fitted, root, *, examples=None, graph=None, **changes):
    signature = table.signature
    meta = Meta(
        model="late", task="binary_classification", definition_version="d1", features=(), views=(), label={},
        dataset="abc", dataset_rows=10, trained_rows=10, trained_from_us=0, trained_until_us=1, known_until_us=2,
        created_at_us=3, refitted=True, seed=1, estimator="LGBMClassifier", baseline="Constant", metrics={}, gates=(),
        check={}, libraries=libraries(),
    )  # fmt: skip
    meta = msgspec.structs.replace(meta, **changes)
    graphs = (
        graph or convert(fitted, signature, "late").SerializeToString(),
        constant_graph(0.25, signature).SerializeToString(),
    )
    recorded = signature.numbers_matrix(table.columns)[:20], signature.texts_matrix(table.columns)[:20]
    return write(root, meta, graphs, (signature, signature), examples or recorded)


def test_a_package_loads_and_answers_as_its_estimator(table, fitted, package):
    loaded = load(package.path)
    loaded.verify_examples()
    assert loaded.version == package.path.name
    assert loaded.runtime.predict(table.columns) == pytest.approx(
        estimate(fitted, table.columns, table.signature), abs=1e-5
    )
    assert loaded.baseline.predict(table.columns) == pytest.approx(np.full(len(table.y), 0.25))
    assert loaded.meta.libraries["lightgbm"]


def test_the_same_content_has_the_same_version_whenever_it_is_made(table, fitted, package, tmp_path):
    again = packaged(table, fitted, tmp_path, created_at_us=99)
    assert again.version == package.version
    assert again.meta.created_at_us == package.meta.created_at_us  # what is there is left as it is


def test_another_dataset_or_definition_is_another_version(table, fitted, package, tmp_path):
    versions = {package.version}
    for changes in ({"dataset": "abd"}, {"definition_version": "d2"}, {"model": "later"}):
        versions.add(packaged(table, fitted, tmp_path, **changes).version)
    assert len(versions) == 4


@pytest.mark.parametrize("name", ["model.onnx", "baseline.onnx", "signature.json", "examples.json", "meta.json"])
def test_a_changed_file_is_refused_by_name(package, name):
    path = package.path / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(PackageError, match=rf"MS-M131.*{name}"):
        load(package.path)


def test_a_missing_file_is_refused_by_name(package):
    (package.path / "signature.json").unlink()
    with pytest.raises(PackageError, match=r"MS-M130(.|\n)*signature.json"):
        load(package.path)


def test_a_manifest_that_was_rewritten_too_does_not_carry_the_version(package):
    path = package.path / "MANIFEST"
    manifest = json.loads(path.read_bytes())
    manifest["version"] = "000000000000"
    path.write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=r"MS-M131.*version"):
        load(package.path)


def test_a_later_format_is_refused(package):
    path = package.path / "MANIFEST"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": 2}))
    with pytest.raises(FormatError, match=r"MS-M133.*2"):
        load(package.path)


def test_what_was_checked_is_what_answers_even_if_the_folder_changes_afterwards(table, package):
    loaded = load(package.path)
    (package.path / "model.onnx").write_bytes(b"something else")
    loaded.verify_examples()


def test_a_graph_that_is_not_the_recorded_one_is_found_by_its_examples(table, package):
    loaded = load(package.path)
    wrong = Runtime(constant_graph(0.5, table.signature).SerializeToString(), table.signature)
    loaded.__dict__["runtime"] = wrong
    with pytest.raises(PackageError, match="MS-M132"):
        loaded.verify_examples()


def test_a_package_holds_no_pickle(package):
    assert {p.name for p in package.path.iterdir()} == {
        "MANIFEST", "model.onnx", "baseline.onnx", "signature.json", "meta.json", "examples.json",
    }  # fmt: skip


def test_a_runtime_names_the_column_that_was_not_given(table, package):
    with pytest.raises(PackageError, match=r"MS-M120.*'f0'"):
        package.runtime.predict({name: v for name, v in table.columns.items() if name != "f0"})


def test_many_rows_are_answered_as_few_are(table, package):
    numbers = np.tile(table.signature.numbers_matrix(table.columns), (5, 1))
    texts = np.tile(table.signature.texts_matrix(table.columns), (5, 1))
    whole = package.runtime.predict_matrix(numbers, texts)
    assert np.array_equal(whole[:7], package.runtime.predict_matrix(numbers[:7], texts[:7]))
    assert np.array_equal(whole[:2000], whole[8000:])


def test_bytes_that_are_no_model_are_refused(table):
    with pytest.raises(PackageError, match="MS-M121"):
        Runtime(b"not a model", table.signature)


def test_a_constant_answers_its_value_for_each_row(table):
    assert Constant(0.3).predict_proba(table.X).shape == (len(table.y), 2)
    runtime = Runtime(constant_graph(0.3, table.signature).SerializeToString(), table.signature)
    assert runtime.predict({name: v[:3] for name, v in table.columns.items()}) == pytest.approx([0.3] * 3)


def test_examples_with_infinite_numbers_are_answered_as_they_were(table, fitted, tmp_path):
    numbers = table.signature.numbers_matrix(table.columns)[:4].copy()
    numbers[0], numbers[1], numbers[2] = np.inf, -np.inf, np.nan
    texts = table.signature.texts_matrix(table.columns)[:4]
    package = packaged(table, fitted, tmp_path, examples=(numbers, texts))
    recorded = json.loads((package.path / "examples.json").read_bytes())
    assert [row[0] for row in recorded["numbers"]] == ["inf", "-inf", None, float(numbers[3, 0])]
    assert len(set(recorded["outputs"][:3])) > 1  # the model tells them apart
    load(package.path).verify_examples()


def test_an_infinite_or_absent_answer_is_an_answer_too_and_another_one_is_found(table, fitted, tmp_path):
    graph = constant_graph(float("inf"), table.signature).SerializeToString()
    package = packaged(table, fitted, tmp_path, graph=graph)
    load(package.path).verify_examples()
    loaded = load(package.path)
    loaded.__dict__["runtime"] = Runtime(constant_graph(0.5, table.signature).SerializeToString(), table.signature)
    with pytest.raises(PackageError, match="MS-M132"):
        loaded.verify_examples()
