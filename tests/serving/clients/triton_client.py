"""Triton's own clients, HTTP and gRPC, against the addresses given; prints what they say as JSON."""

import base64
import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

MODEL = "late_ride"
COLUMNS = json.loads(sys.argv[3])


def inputs(module, **how):
    found = []
    for name, (datatype, values) in COLUMNS.items():
        one = module.InferInput(name, [len(values)], datatype)
        one.set_data_from_numpy(np.array(values, object if datatype == "BYTES" else None), **how)
        found.append(one)
    return found


def said(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


def main(address, grpc_address):
    http = triton_http.InferenceServerClient(address)
    grpc = triton_grpc.InferenceServerClient(grpc_address)
    found = {
        "health": [c.is_server_live() and c.is_server_ready() and c.is_model_ready(MODEL) for c in (http, grpc)],
        "metadata": http.get_model_metadata(MODEL)["name"],
        "grpc_metadata": grpc.get_model_metadata(MODEL).name,
        "config": http.get_model_config(MODEL)["max_batch_size"],
        "index": [one["name"] for one in http.get_model_repository_index()],
        "grpc_index": [one.name for one in grpc.get_model_repository_index().models],
        "extensions": http.get_server_metadata()["extensions"],
        "answers": [],
    }
    some = [
        triton_http.InferRequestedOutput("prediction", binary_data=False),
        triton_http.InferRequestedOutput("variant", binary_data=True),
    ]
    for binary in (True, False):
        for coding in (None, "gzip", "deflate"):
            for outputs in (None, some):
                answer = http.infer(
                    MODEL,
                    inputs(triton_http, binary_data=binary),
                    outputs=outputs,
                    request_id="mine",
                    timeout=5_000_000,
                    request_compression_algorithm=coding,
                    response_compression_algorithm=coding,
                )
                variants = [v.decode() if isinstance(v, bytes) else v for v in answer.as_numpy("variant")]
                found["answers"].append([answer.as_numpy("prediction").tolist(), variants, answer.get_response()["id"]])
    for coding in (None, "gzip", "deflate"):
        sent = inputs(triton_grpc)
        answer = grpc.infer(MODEL, sent, request_id="mine", client_timeout=5, compression_algorithm=coding)
        variants = [v.decode() for v in answer.as_numpy("variant")]
        found["answers"].append([answer.as_numpy("prediction").tolist(), variants, answer.get_response().id])
    found["stats"] = http.get_inference_statistics(MODEL)["model_stats"][0]["request_count"]
    found["unknown"] = [
        said(lambda: http.infer("nobody", inputs(triton_http))),
        said(lambda: grpc.infer("nobody", inputs(triton_grpc))),
    ]
    found["missing"] = [
        said(lambda: http.infer(MODEL, inputs(triton_http)[1:])),
        said(lambda: grpc.infer(MODEL, inputs(triton_grpc)[1:])),
    ]
    found["protocol"] = base64.b64encode(service_pb2.DESCRIPTOR.serialized_pb).decode()
    http.close()
    grpc.close()
    print(json.dumps(found))


main(sys.argv[1], sys.argv[2])
