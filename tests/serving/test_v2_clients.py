"""The protocol's own clients, as they are published, in environments of their own (``tools/clients.sh``)."""

import base64
import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from google.protobuf import descriptor_pb2

from mainspring.cli.app import run as cli
from mainspring.serving.grpc_messages import MESSAGES, METHODS

from doors import open_doors  # isort: skip
from rides import World, ride  # isort: skip
from tensors import DATATYPES, columns, inputs  # isort: skip

HERE = Path(__file__).parent / "clients"
HOME = Path(__file__).parents[2] / ".venv" / "clients"
ROWS = {name: (DATATYPES[name], values) for name, values in columns(1, 2, 3).items()}


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    """A gateway that knows nothing of who asks."""
    with World(tmp_path_factory.mktemp("clients")) as world:
        world.live()
        with open_doors(world) as found:
            yield found


@pytest.fixture(scope="module")
def wanted(doors):
    """What plain JSON answers."""
    found = httpx.post(f"http://{doors[0]}/predict/late_ride", json=[ride(i, asked_at=...) for i in (1, 2, 3)])
    return [one["prediction"] for one in found.json()]


def program(environment, name):
    """A program of a client's environment."""
    path = HOME / environment / "bin" / name
    if not path.exists() and not os.environ.get("CI"):
        pytest.skip("make clients")
    return str(path)


def run(*command, **options):
    """What a client prints; PYTHONPATH is ours and none of its business."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8_000:]
    return done.stdout


def test_tritons_clients_get_the_answers_of_plain_json(doors, wanted):
    found = json.loads(run(program("v2", "python"), str(HERE / "triton_client.py"), *doors, json.dumps(ROWS)))
    assert found["health"] == [True, True]
    assert (found["metadata"], found["grpc_metadata"], found["config"]) == ("late_ride", "late_ride", 0)
    assert found["index"] == found["grpc_index"] == ["late_ride"]
    assert "binary_tensor_data" in found["extensions"]
    assert len(found["answers"]) == 15
    assert all(answer == [wanted, ["champion"] * 3, "mine"] for answer in found["answers"])
    assert found["stats"] >= 15
    (http, http_said), (grpc, grpc_said) = found["unknown"]
    assert (http, grpc) == ("404", "StatusCode.NOT_FOUND")
    assert http_said == grpc_said
    (http, http_said), (grpc, grpc_said) = found["missing"]
    assert (http, grpc) == ("400", "StatusCode.INVALID_ARGUMENT")
    assert http_said == grpc_said
    assert "`ride_id`" in http_said
    compare(descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(found["protocol"])))


def compare(theirs):
    """Our messages have the fields, numbers and types of Triton's."""

    def fields(message):
        return {(f.name, f.number, f.label, f.type, f.type_name) for f in message.field}

    named = {message.name: message for message in theirs.message_type}
    for name, ours in MESSAGES.items():
        described = descriptor_pb2.DescriptorProto()
        ours.DESCRIPTOR.CopyToProto(described)
        assert fields(described) == fields(named[name]), name
        inner = {message.name: message for message in named[name].nested_type}
        for nested in described.nested_type:
            assert fields(nested) == fields(inner[nested.name]), f"{name}.{nested.name}"
            assert nested.options.map_entry == inner[nested.name].options.map_entry
    (service,) = theirs.service
    known = {(m.name, m.input_type, m.output_type) for m in service.method}
    assert {(m, f".inference.{m}Request", f".inference.{m}Response") for m in METHODS} <= known


def test_kserves_clients_get_the_answers_of_plain_json(doors, wanted):
    found = json.loads(run(program("v2", "python"), str(HERE / "kserve_client.py"), *doors, json.dumps(ROWS)))
    assert found.pop("rest_health") == [True, True, True, False]
    assert found.pop("grpc_health") == [True, True, True]
    assert "Expected one of 'north', 'south', got 'west'" in found.pop("error")
    assert set(found) == {"rest False", "rest True", "grpc False", "grpc True"}
    assert all(one == {"id": "mine", "prediction": wanted} for one in found.values())


def test_mlserver_infer_scores_a_file(doors, wanted, tmp_path):
    asked, answered = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [json.dumps({"id": f"row{i}", "inputs": inputs(columns(i))}) for i in (1, 2, 3)]
    asked.write_text("\n".join(rows) + "\n")
    options = ["--url", doors[0], "--model-name", "late_ride", "--batch-size", "2", "--workers", "2"]
    files = ["--input-data-path", str(asked), "--output-data-path", str(answered)]
    run(program("mlserver", "mlserver"), "infer", *options, *files)
    found = {one["id"]: one for one in map(json.loads, answered.read_text().splitlines())}
    assert set(found) == {"row1", "row2", "row3"}
    predictions = [found[f"row{i}"]["outputs"][0] for i in (1, 2, 3)]
    assert all(one["name"] == "prediction" for one in predictions)
    assert [one["data"] for one in predictions] == [[value] for value in wanted]


def examine(door, *more):
    """What schemathesis says of a door's OpenAPI, and of what the door does."""
    options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "7", "--no-color", *more]
    where, config = f"http://{door}/openapi.json", str(HERE / "schemathesis.toml")
    return run(program("v2", "schemathesis"), "--config-file", config, "run", where, *options)


def test_schemathesis_finds_no_fault_with_the_openapi(doors):
    assert "16 selected / 16 total" in examine(doors[0])


def test_schemathesis_finds_no_fault_with_the_openapi_of_a_gateway_with_keys(tmp_path, capsys):
    with World(tmp_path) as world:
        settings = world.root / "mainspring.toml"
        settings.write_text(settings.read_text().replace("[gateway]\n", "[gateway]\nkeys = true\n"))
        world.reload()
        assert cli(["keys", "create", "tester", "--scope", "admin", "-C", str(world.root), "--json"]) == 0
        key = json.loads(capsys.readouterr().out)["key"]
        world.live()
        with open_doors(world) as (door, _):
            assert "16 selected / 16 total" in examine(door, "--header", f"Authorization: Bearer {key}")
