"""Requests of the Open Inference Protocol for the rides of these tests, in JSON and in bytes."""

import json
import struct

import numpy as np

from rides import ride  # isort: skip

DATATYPES = {
    "ride_id": "BYTES",
    "driver": "BYTES",
    "zone": "BYTES",
    "distance_km": "FP64",
    "passengers": "INT64",
    "asked_at": "INT64",
}
NUMPY = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "INT64": "<i8", "INT32": "<i4", "UINT64": "<u8", "BOOL": "?"}


def columns(*numbers, **changes):
    """Rides as columns, without a time; a change of ``...`` leaves the column out."""
    rows = [ride(number, asked_at=...) for number in numbers or (1,)]
    found = {name: [row[name] for row in rows] for name in rows[0]} | changes
    return {name: values for name, values in found.items() if values is not ...}


def inputs(found, shape=None, **datatypes):
    """Columns as the JSON of inputs."""
    return [
        {
            "name": name,
            "datatype": datatypes.get(name, DATATYPES.get(name, "FP64")),
            "shape": shape or [len(values)],
            "data": values,
        }
        for name, values in found.items()
    ]


def texts(values):
    """BYTES as they are sent."""
    return b"".join(struct.pack("<I", len(v)) + v for v in (t if isinstance(t, bytes) else t.encode() for t in values))


def packed(datatype, values):
    """The bytes of a tensor."""
    return texts(values) if datatype == "BYTES" else np.array(values, NUMPY[datatype]).tobytes()


def binary(found, parameters=None, outputs=None, **datatypes):
    """The body of a request whose inputs are all bytes, and the length of its JSON."""
    head, blobs = [], []
    for one in inputs(found, **datatypes):
        blobs.append(packed(one["datatype"], one.pop("data")))
        head.append(one | {"parameters": {"binary_data_size": len(blobs[-1])}})
    body = {"inputs": head} | ({"parameters": parameters} if parameters else {})
    text = json.dumps(body | ({"outputs": outputs} if outputs else {})).encode()
    return text + b"".join(blobs), len(text)


def output(answer, name):
    """One output of an answer: its values, whether they came as JSON or as bytes."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    at = length
    for one in json.loads(answer.body[:length])["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if one["name"] == name:
            return one["data"] if size is None else unpacked(one["datatype"], answer.body[at : at + size])
        at += size or 0
    raise AssertionError(f"no output {name}")


def unpacked(datatype, raw):
    if datatype != "BYTES":
        return np.frombuffer(raw, NUMPY[datatype]).tolist()
    found = []
    while raw:
        length = 4 + struct.unpack_from("<I", raw)[0]
        found.append(raw[4:length].decode())
        raw = raw[length:]
    return found


async def infer(client, found, model="late_ride", version="", headers=None, **body):
    """Send columns, or the bytes of a whole body, to a model."""
    sent = found if isinstance(found, bytes) else json.dumps({"inputs": inputs(found)} | body).encode()
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
    return await client.ask("POST", path, sent, **headers or {})
