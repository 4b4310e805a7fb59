"""KServe's own clients, REST and gRPC, against the addresses given; prints what they say as JSON."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, RESTConfig

MODEL = "late_ride"
COLUMNS = json.loads(sys.argv[3])


def request(*, binary):
    found = []
    for name, (datatype, values) in COLUMNS.items():
        one = InferInput(name, [len(values)], datatype)
        one.set_data_from_numpy(np.array(values, object if datatype == "BYTES" else None), binary_data=binary)
        found.append(one)
    return InferRequest(model_name=MODEL, infer_inputs=found, request_id="mine")


def shown(answer):
    return {
        "id": answer.id,
        "prediction": next(o.as_numpy().tolist() for o in answer.outputs if o.name == "prediction"),
    }


async def main(http, grpc):
    rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    async with InferenceGRPCClient(grpc, retries=0) as calls:
        found = {
            "rest_health": [
                await rest.is_server_live(http),
                await rest.is_server_ready(http),
                await rest.is_model_ready(http, MODEL),
                await rest.is_model_ready(http, "nobody"),
            ],
            "grpc_health": [
                await calls.is_server_live(),
                await calls.is_server_ready(),
                await calls.is_model_ready(MODEL),
            ],
        }
        for binary in (False, True):
            found[f"rest {binary}"] = shown(await rest.infer(http, request(binary=binary), model_name=MODEL))
            found[f"grpc {binary}"] = shown(await calls.infer(request(binary=binary)))
        bad = request(binary=False)
        bad.inputs[2].data = ["west"] * len(bad.inputs[2].data)
        try:
            await rest.infer(http, bad, model_name=MODEL)
        except Exception as error:  # noqa: BLE001  what it says of us is the result
            found["error"] = str(error)
    await rest.close()
    print(json.dumps(found))


asyncio.run(main(f"http://{sys.argv[1]}", sys.argv[2]))
