"""Answers of the Open Inference Protocol: inference results, metadata and statistics."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.http_message import Response
from edgeferry.agent.serving.oip_classes import best_classes, bytes_tensor
from edgeferry.agent.serving.oip_request import InferCall
from edgeferry.agent.serving.queue import Tensors
from edgeferry.agent.serving.registry import ServedVersion
from edgeferry.agent.serving.request_headers import server_timing
from edgeferry.agent.serving.stats import Durations
from edgeferry.agent.serving.tensor_json import tensor_to_json
from edgeferry.inference.quantization import dequantize, is_quantized
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import TensorSpec
from edgeferry.wire.tensors import BINARY_SIZE, InferResponse, OutputTensor

__all__ = [
    "HEADER_LENGTH",
    "PLATFORM",
    "client_output",
    "infer_response",
    "json_response",
    "model_config",
    "model_metadata",
    "model_statistics",
    "output_bytes",
    "statistics_of",
]

PLATFORM = "tensorflow_tflite"
HEADER_LENGTH = "Inference-Header-Content-Length"


def json_response(value: object) -> Response:
    """Return ``value`` as a JSON answer."""
    return Response(200, [msgspec.json.encode(value)])


def infer_response(call: InferCall, served: ServedVersion, outputs: Tensors, durations: Durations) -> Response:
    """Return the answer to ``call``: all JSON, or JSON and then the binary tensors."""
    tensors: list[OutputTensor] = []
    binaries: list[bytes | memoryview] = []
    for wanted in call.outputs:
        array, datatype = client_output(outputs[wanted.spec.name], wanted.spec, is_real=call.is_real)
        shape = array.shape
        if wanted.classes:
            texts = best_classes(array, wanted.classes, served.class_labels)
            data: bytes | memoryview = bytes_tensor(texts, is_binary=wanted.is_binary)
            shape, datatype = (len(texts),), "BYTES"
        else:
            data = output_bytes(array) if wanted.is_binary else tensor_to_json(array)
        if wanted.is_binary:
            tensors.append(OutputTensor(wanted.spec.name, shape, datatype, {BINARY_SIZE: len(data)}))
            binaries.append(data)
        else:
            tensors.append(OutputTensor(wanted.spec.name, shape, datatype, data=msgspec.Raw(data)))
    header = encode(InferResponse(served.name, str(served.version), tuple(tensors), id=call.id))
    timing = server_timing(durations)
    if not binaries:
        return Response(200, [header], headers=timing)
    headers = {HEADER_LENGTH: str(len(header)), **timing}
    return Response(200, [header, *binaries], "application/octet-stream", headers)


def output_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of a tensor, little-endian and row-major, without a copy where it lies so already."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def client_output(array: NDArray[Any], spec: TensorSpec, *, is_real: bool) -> tuple[NDArray[Any], str]:
    """Return an output and its datatype: FP32 where it is quantized and real numbers are wanted."""
    if is_real and is_quantized(spec):
        return dequantize(array, spec), "FP32"
    return array, spec.datatype


def model_metadata(served: ServedVersion, versions: Sequence[ServedVersion]) -> Response:
    """Return what the model takes and gives."""
    return json_response(
        {
            "name": served.name,
            "versions": [str(each.version) for each in versions],
            "platform": PLATFORM,
            "inputs": [_tensor_metadata(spec) for spec in served.inputs],
            "outputs": [_tensor_metadata(spec) for spec in served.outputs],
        }
    )


def _tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def model_config(served: ServedVersion) -> Response:
    """Return the part of Triton's model configuration that a client can use."""
    return json_response(
        {
            "name": served.name,
            "platform": PLATFORM,
            "backend": "tensorflow_tflite",
            "version_policy": {"specific": {"versions": [served.version]}},
            "max_batch_size": 0,  # shapes are whole: the batch is a dimension like the others
            "input": [_tensor_config(spec) for spec in served.inputs],
            "output": [_tensor_config(spec) for spec in served.outputs],
        }
    )


def _tensor_config(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": spec.shape}


def model_statistics(versions: Sequence[ServedVersion]) -> Response:
    """Return the statistics of ``versions``, as Triton's statistics extension has them."""
    return json_response({"model_stats": [statistics_of(served) for served in versions]})


def statistics_of(served: ServedVersion) -> dict[str, Any]:
    """Return what one version has done."""
    totals = served.queue.stats.totals
    count = totals.succeeded
    nothing = _durations(count, 0.0)  # input and output are not measured apart from the rest
    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": totals.last_ms,
        "inference_count": count,
        "execution_count": count,
        "inference_stats": {
            "success": _durations(count, totals.queue_s + totals.invoke_s),
            "fail": _durations(totals.failed, totals.failed_s),
            "queue": _durations(count, totals.queue_s),
            "compute_input": nothing,
            "compute_infer": _durations(count, totals.invoke_s),
            "compute_output": nothing,
        },
        "batch_stats": [],
    }


def _durations(count: int, total_s: float) -> dict[str, int]:
    return {"count": count, "ns": round(total_s * 1e9)}
