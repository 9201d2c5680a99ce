"""gRPC: the Open Inference Protocol's ModelInfer, with messages of our own, so that nothing is generated."""

from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import grpc
import numpy as np

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.protobuf import Fields, decode_message, encode_message
from edgeferry.client.call import Answer, Call, array_of
from edgeferry.client.errors import InferenceError
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Code
from edgeferry.wire.tensors import TensorBytes

__all__ = ["GrpcTransport"]

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # the server's
_METHOD = "/inference.GRPCInferenceService/ModelInfer"


class GrpcTransport:
    """One channel, which connects and reconnects by itself."""

    def __init__(self, url: SplitResult, token: str, ca_file: Path | None) -> None:
        self._address = f"{url.hostname}:{url.port or 8500}"
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        options = [(f"grpc.max_{way}_message_length", _MAX_MESSAGE_BYTES) for way in ("send", "receive")]
        if url.scheme == "grpcs":
            credentials = grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
            self._channel = grpc.secure_channel(self._address, credentials, options)
        else:
            self._channel = grpc.insecure_channel(self._address, options)
        self._call: Any = self._channel.unary_unary(_METHOD)

    def infer(self, call: Call) -> Answer:
        """Return the answer."""
        metadata = [*self._metadata, *([("x-routing-key", call.routing_key)] if call.routing_key else [])]
        request = encode_message(protos.INFER_REQUEST, _request(call))
        try:
            answer = self._call(request, timeout=call.timeout_s, metadata=metadata)
        except grpc.RpcError as err:
            failed: Any = err
            raise InferenceError(Code[failed.code().name], f"{self._address}: {failed.details()}") from err
        try:
            return _answer(decode_message(protos.INFER_RESPONSE, answer))
        except WireError as err:
            raise InferenceError(Code.INTERNAL, f"the answer cannot be read: {err}") from err

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


def _request(call: Call) -> Fields:
    inputs = [
        {"name": tensor.name, "datatype": tensor.datatype, "shape": np.array(tensor.shape, np.int64)}
        for tensor in call.tensors
    ]
    return {
        "model_name": call.model,
        "model_version": call.version,
        "inputs": inputs,
        "raw_input_contents": [tensor.data for tensor in call.tensors],
    }


def _answer(response: Fields) -> Answer:
    described, contents = response.get("outputs", []), response.get("raw_output_contents", [])
    if len(described) != len(contents):
        raise WireError(f"{len(described)} outputs and {len(contents)} raw contents")
    outputs = {}
    for fields, data in zip(described, contents, strict=True):
        shape = tuple(fields.get("shape", np.zeros(0, np.int64)).tolist())
        tensor = TensorBytes(fields.get("name", ""), fields.get("datatype", ""), shape, data)
        outputs[tensor.name] = array_of(tensor)
    return Answer(outputs, response.get("model_version", ""))
