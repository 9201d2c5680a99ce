"""The Open Inference Protocol's gRPC service, with Triton's additions: configuration, statistics, repository index.

Inputs come typed or raw; outputs always go raw. Source: kserve/open-inference-protocol,
specification/protocol/inference_grpc.md.
"""

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry import __version__
from edgeferry.agent.serving import protos
from edgeferry.agent.serving.errors import RequestError, UnknownVersionError
from edgeferry.agent.serving.invocation import Caller, Stopwatch
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.oip_request import InferCall, Source, assemble_call, routing_key_of
from edgeferry.agent.serving.oip_response import PLATFORM, encode_output, statistics_of
from edgeferry.agent.serving.oip_rest import EXTENSIONS
from edgeferry.agent.serving.protobuf import Fields, decode_message, encode_message
from edgeferry.agent.serving.queue import Tensors
from edgeferry.agent.serving.registry import Registry, ServedVersion
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.desired import TensorSpec
from edgeferry.wire.tensors import InferRequest, InputTensor, RequestedOutput, tensor_bytes

__all__ = ["OipGrpc"]

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}  # FP16 and BF16 travel raw
_DATA_TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
_MAX_RANK = 32


class OipGrpc:
    """Answers calls; many threads call the methods at once, with a request's bytes, and get the answer's."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def server_live(self, _body: bytes, _caller: Caller) -> bytes:
        """Tell that the server lives, and that it is ready: whoever answers is both."""
        return encode_message(protos.TRUTH_RESPONSE, {"truth": True})

    def model_ready(self, body: bytes, _caller: Caller) -> bytes:
        """Tell whether a version is loaded; that it is not is an answer, no error."""
        request = decode_message(protos.MODEL_REQUEST, body)
        try:
            with self._registry.hold(request.get("name", ""), request.get("version", "")):
                return encode_message(protos.TRUTH_RESPONSE, {"truth": True})
        except UnknownVersionError:
            return encode_message(protos.TRUTH_RESPONSE, {})

    def server_metadata(self, _body: bytes, _caller: Caller) -> bytes:
        """Tell what this server is."""
        fields = {"name": "edgeferry", "version": __version__, "extensions": EXTENSIONS}
        return encode_message(protos.SERVER_METADATA_RESPONSE, fields)

    def model_metadata(self, body: bytes, _caller: Caller) -> bytes:
        """Tell what a model takes and gives."""
        request = decode_message(protos.MODEL_REQUEST, body)
        with self._registry.hold(request.get("name", ""), request.get("version", "")) as served:
            versions = self._registry.models().get(served.name, ())
            fields = {
                "name": served.name,
                "versions": [str(each.version) for each in versions],
                "platform": PLATFORM,
                "inputs": [_metadata(spec) for spec in served.inputs],
                "outputs": [_metadata(spec) for spec in served.outputs],
            }
        return encode_message(protos.MODEL_METADATA_RESPONSE, fields)

    def model_config(self, body: bytes, _caller: Caller) -> bytes:
        """Tell the part of Triton's model configuration that a client can use."""
        request = decode_message(protos.MODEL_REQUEST, body)
        with self._registry.hold(request.get("name", ""), request.get("version", "")) as served:
            config = {
                "name": served.name,
                "platform": PLATFORM,
                "backend": PLATFORM,
                "input": [_config(spec) for spec in served.inputs],
                "output": [_config(spec) for spec in served.outputs],
            }
        return encode_message(protos.MODEL_CONFIG_RESPONSE, {"config": config})

    def model_statistics(self, body: bytes, _caller: Caller) -> bytes:
        """Tell what the versions of a model have done; of all models when none is named."""
        request = decode_message(protos.MODEL_REQUEST, body)
        name, version = request.get("name", ""), request.get("version", "")
        models = self._registry.models()
        if name:
            with self._registry.hold(name, version) as served:
                chosen: Sequence[ServedVersion] = [served] if version else models.get(name, ())
        else:
            chosen = [served for versions in models.values() for served in versions]
        return encode_message(protos.STATISTICS_RESPONSE, {"model_stats": [statistics_of(each) for each in chosen]})

    def repository_index(self, _body: bytes, _caller: Caller) -> bytes:
        """List what is loaded."""
        loaded = [served for versions in self._registry.models().values() for served in versions]
        models = [{"name": each.name, "version": str(each.version), "state": "READY"} for each in loaded]
        return encode_message(protos.INDEX_RESPONSE, {"models": models})

    def model_infer(self, body: bytes, caller: Caller) -> bytes:
        """Run a model."""
        began_s, watch = time.monotonic(), Stopwatch()
        request = decode_message(protos.INFER_REQUEST, body)
        key = partial(routing_key_of, caller.routing_key, _parameters(request))
        model, version = request.get("model_name", ""), request.get("model_version", "")
        with self._registry.hold(model, version, routing_key=key) as served:
            try:
                header, sources = _parsed(request)
                call = assemble_call(header, sources, served.inputs, served.outputs)
                watch.parsed()
                outputs, run = served.queue.run(
                    call.inputs, caller.deadline.at_s, is_patient=caller.deadline.is_patient, turn=call.turn
                )
            except RequestError as err:
                self._metrics.refused(served.name, err)
                raise
            watch.answered()
            answer = encode_message(protos.INFER_RESPONSE, _answer(call, served, outputs))
            spent, latency_s = watch.written(served, run), time.monotonic() - began_s
            self._metrics.answered(served.name, "infer", "GRPC", latency_s=latency_s, spent=spent)
        return answer


def _metadata(spec: TensorSpec) -> Fields:
    return {"name": spec.name, "datatype": spec.datatype, "shape": np.array(spec.shape, np.int64)}


def _config(spec: TensorSpec) -> Fields:
    data_type = _DATA_TYPES.index(spec.datatype) + 1  # inference.DataType begins with TYPE_INVALID
    return {"name": spec.name, "data_type": data_type, "dims": np.array(spec.shape, np.int64)}


def _parsed(request: Fields) -> tuple[InferRequest, list[Source]]:
    raw = request.get("raw_input_contents", [])
    tensors = request.get("inputs", [])
    inputs = tuple(_input(tensor) for tensor in tensors)
    if raw and len(raw) != len(inputs):
        raise RequestError.bad(f"{len(raw)} raw_input_contents, wanted one for each of {len(inputs)} inputs")
    sources: list[Source] = (
        [_raw(tensor, data) for tensor, data in zip(inputs, raw, strict=True)]
        if raw
        else [_typed(tensor, fields.get("contents", {})) for tensor, fields in zip(inputs, tensors, strict=True)]
    )
    outputs = tuple(
        RequestedOutput(output.get("name", ""), {**_parameters(output), "binary_data": True})
        for output in request.get("outputs", [])
    )
    parameters = {**_parameters(request), "binary_data_output": True}
    return InferRequest(inputs, request.get("id", ""), outputs, parameters), sources


def _input(fields: Fields) -> InputTensor:
    shape = tuple(fields.get("shape", np.zeros(0, np.int64)).tolist())
    name = fields.get("name", "")
    if len(shape) > _MAX_RANK or any(not 0 <= size < 1 << 31 for size in shape):
        raise RequestError.bad(f"input {name[:64]!r} has no usable shape: {list(shape)[:_MAX_RANK]}")
    return InputTensor(name, shape, fields.get("datatype", ""))


def _parameters(fields: Fields) -> dict[str, Any]:
    return {name: next(iter(value.values()), None) for name, value in fields.get("parameters", {}).items()}


def _raw(tensor: InputTensor, data: memoryview) -> memoryview:
    wanted = tensor_bytes(tensor.datatype, tensor.shape)
    if len(data) != wanted:
        raise RequestError.bad(f"input {tensor.name[:64]!r} has {len(data)} bytes, wanted {wanted}")
    return data


def _typed(tensor: InputTensor, contents: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    where = f"input {tensor.name[:64]!r}"
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        raise RequestError.bad(f"{where} is {tensor.datatype[:16]!r}, which contents do not have; send it raw")
    values = contents.get(field, np.zeros(0, np.int64))
    if len(values) != math.prod(tensor.shape):
        detail = f"{where} has {len(values)} {field}, its shape {list(tensor.shape)} takes {math.prod(tensor.shape)}"
        raise RequestError.bad(detail)
    dtype = DTYPES[tensor.datatype]
    if tensor.datatype == "UINT64":
        return values.view(np.uint64)
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise RequestError.bad(f"{where} exceeds {tensor.datatype}: {limits.min} to {limits.max}")
    return values.astype(dtype)


def _answer(call: InferCall, served: ServedVersion, outputs: Tensors) -> Fields:
    encoded = [(w, encode_output(call, w, outputs[w.spec.name], served.class_labels)) for w in call.outputs]
    tensors = [
        {"name": wanted.spec.name, "datatype": output.datatype, "shape": np.array(output.shape, np.int64)}
        for wanted, output in encoded
    ]
    return {
        "model_name": served.name,
        "model_version": str(served.version),
        "id": call.id,
        "outputs": tensors,
        "raw_output_contents": [output.data for _, output in encoded],
    }
