"""FastAPI + ONNX Runtime: pydantic reads each order, the graph scores it. ``GRAPH`` names the graph."""

import os
from typing import Any

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, create_model

FLOATS, KEYS = 30, 5
NAMES = [f"f{i}" for i in range(FLOATS)]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["GRAPH"], options, providers=["CPUExecutionProvider"])
fields: dict[str, Any] = {"order_id": (str, ...)}
fields |= {f"k{i}": (str, ...) for i in range(KEYS)} | dict.fromkeys(NAMES, (float, ...))
Order = create_model("Order", **fields)
app = FastAPI()


def score(orders: list[BaseModel]) -> list[float]:
    rows = np.array([[getattr(order, name) for name in NAMES] for order in orders], np.float32)
    return session.run(["output"], {"numbers": rows})[0].tolist()


@app.post("/predict")
async def predict(order: Order) -> dict[str, Any]:
    return {"prediction": score([order])[0], "prediction_id": order.order_id}


@app.post("/batch")
async def batch(orders: list[Order]) -> list[dict[str, Any]]:
    found = zip(score(orders), orders, strict=True)
    return [{"prediction": value, "prediction_id": order.order_id} for value, order in found]
