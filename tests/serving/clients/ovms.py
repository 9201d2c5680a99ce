"""OpenVINO Model Server's client over HTTP and gRPC; run in an environment of its own.

python ovms.py HTTP_ADDRESS GRPC_ADDRESS FOLDER: asks with FOLDER/x.npy and FOLDER/raw.npy, writes what it got to
FOLDER/answers.npz.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import ovmsclient
from ovmsclient.tfs_compat.base.errors import ModelNotFoundError

http_address, grpc_address, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
x = np.load(folder / "x.npy")
answers = {}


def refusal(call, kind):
    """Return the error that ``call`` raises."""
    try:
        call()
    except kind as err:
        return err
    raise AssertionError("it was answered")


for name, client in (
    ("http", ovmsclient.make_http_client(http_address)),
    ("grpc", ovmsclient.make_grpc_client(grpc_address)),
):
    status = client.get_model_status("floats")
    assert {version: state["state"] for version, state in status.items()} == {1: "AVAILABLE", 2: "AVAILABLE"}, status
    assert "digits" in str(client.get_model_metadata("digits")) or name == "grpc"
    answers[f"{name}-floats"] = client.predict({"x": x}, "floats")
    answers[f"{name}-floats-1"] = client.predict({"x": x}, "floats", model_version=1)
    answers[f"{name}-real"] = client.predict({"x": x}, "digits")
    both = client.predict({"a": np.ones((1, 2), np.float32), "b": np.ones((1, 2), np.float32)}, "pair")
    assert both["sum"].tolist() == [[2.0, 2.0]]
    unknown = refusal(partial(client.predict, {"x": x}, "cats"), ModelNotFoundError)
    assert "Servable not found for request: Latest(cats)" in str(unknown)
np.savez(folder / "answers.npz", **answers)
