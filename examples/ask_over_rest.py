"""Ask a model over the REST interface of a device with nothing but the standard library, in JSON and in binary.

    python examples/ask_over_rest.py HOST:PORT MODEL

Sends random numbers from 0 to 1 in the shape that the model takes, once in each form, and shows that the answers are
the same. Binary is the form for images and sound: an array of floats takes a quarter of the bytes and needs no parsing.
`edgeferry demo --keep` leaves a device running to try it on.
"""

import array
import http.client
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Tensor:
    """Real numbers and how they are arranged."""

    name: str
    shape: list[int]
    values: "array.array[float]"  # of 32-bit floats, row by row


class Device:
    """One kept connection to a device."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=30)

    def inputs_of(self, model: str) -> list[dict[str, Any]]:
        """Return name, datatype and shape of each input; -1 in a shape stands for any size."""
        answer, _ = self._ask("GET", f"/v2/models/{model}")
        inputs: list[dict[str, Any]] = json.loads(answer)["inputs"]
        return inputs

    def infer_json(self, model: str, tensors: Sequence[Tensor]) -> dict[str, list[float]]:
        """Return the outputs by name; everything travels as text."""
        inputs = [{**described(tensor), "data": tensor.values.tolist()} for tensor in tensors]
        answer, _ = self._ask("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": inputs}).encode())
        return {output["name"]: output["data"] for output in json.loads(answer)["outputs"]}

    def infer_binary(self, model: str, tensors: Sequence[Tensor]) -> dict[str, list[float]]:
        """Return the outputs by name; a JSON header goes first, then the tensors as they lie in memory."""
        binaries = [little_endian(tensor.values).tobytes() for tensor in tensors]
        inputs = [
            {**described(tensor), "parameters": {"binary_data_size": len(binary)}}
            for tensor, binary in zip(tensors, binaries, strict=True)
        ]
        header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
        body = b"".join([header, *binaries])
        answer, header_bytes = self._ask("POST", f"/v2/models/{model}/infer", body, {HEADER_LENGTH: str(len(header))})
        outputs, at = {}, header_bytes
        for output in json.loads(answer[:header_bytes])["outputs"]:
            end = at + output["parameters"]["binary_data_size"]
            outputs[output["name"]] = little_endian(array.array("f", answer[at:end])).tolist()
            at = end
        return outputs

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[bytes, int]:
        self._connection.request(method, path, body or None, headers or {})
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            sys.exit(f"{method} {path}: {response.status} {json.loads(answer)['error']}")
        return answer, int(response.headers.get(HEADER_LENGTH, 0))


def described(tensor: Tensor) -> dict[str, Any]:
    """Return what a request says of a tensor. FP32 will do for a quantized model too: the device converts it."""
    return {"name": tensor.name, "shape": tensor.shape, "datatype": "FP32"}


def little_endian(values: "array.array[float]") -> "array.array[float]":
    """Return ``values`` with their bytes as they travel, or back again."""
    if sys.byteorder == "big":
        values.byteswap()
    return values


def random_tensor(spec: dict[str, Any]) -> Tensor:
    shape = [1 if size == -1 else size for size in spec["shape"]]
    return Tensor(spec["name"], shape, array.array("f", (random.random() for _ in range(math.prod(shape)))))


def main(address: str, model: str) -> int:
    device = Device(address)
    tensors = [random_tensor(spec) for spec in device.inputs_of(model)]
    in_json, in_binary = device.infer_json(model, tensors), device.infer_binary(model, tensors)
    for name, values in in_json.items():
        print(f"{name}: {', '.join(f'{value:.4f}' for value in values[:10])}")
        # JSON spells a 32-bit float with enough digits to get the same one back
        if array.array("f", values).tolist() != in_binary[name]:
            print(f"{name}: JSON and binary differ", file=sys.stderr)
            return 1
    print("JSON and binary gave the same")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: ask_over_rest.py HOST:PORT MODEL")
    sys.exit(main(sys.argv[1], sys.argv[2]))
