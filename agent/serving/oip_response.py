"""Answers of the Open Inference Protocol: inference results, metadata and statistics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving.http_message import Response
from edgeferry.agent.serving.oip_classes import best_classes, bytes_tensor
from edgeferry.agent.serving.oip_request import InferCall, WantedOutput
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
    "EncodedOutput",
    "encode_output",
    "infer_response",
    "json_response",
    "model_config",
    "model_metadata",
    "model_statistics",
    "statistics_of",
]

PLATFORM = "tensorflow_tflite"
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class EncodedOutput:
    """An output as it travels, in JSON or as binary data."""

    shape: tuple[int, ...]
    datatype: str
    data: bytes | memoryview


def json_response(value: object) -> Response:
    """Return ``value`` as a JSON answer."""
    return Response(200, [msgspec.json.encode(value)])


def infer_response(
    call: InferCall, served: ServedVersion, outputs: Tensors, durations: Callable[[], Durations]
) -> Response:
    """Return the answer to ``call``: all JSON, or JSON and then the binary tensors.

    Args:
        call: The request.
        served: The version that has answered.
        outputs: What it gave.
        durations: Tells where the time went; called when the answer is written.
    """
    tensors: list[OutputTensor] = []
    binaries: list[bytes | memoryview] = []
    for wanted in call.outputs:
        output = encode_output(call, wanted, outputs[wanted.spec.name], served.class_labels)
        if wanted.is_binary:
            size = {BINARY_SIZE: len(output.data)}
            tensors.append(OutputTensor(wanted.spec.name, output.shape, output.datatype, size))
            binaries.append(output.data)
        else:
            data = msgspec.Raw(output.data)
            tensors.append(OutputTensor(wanted.spec.name, output.shape, output.datatype, data=data))
    header = encode(InferResponse(served.name, str(served.version), tuple(tensors), id=call.id))
    timing = server_timing(durations())
    if not binaries:
        return Response(200, [header], headers=timing)
    headers = {HEADER_LENGTH: str(len(header)), **timing}
    return Response(200, [header, *binaries], "application/octet-stream", headers)


def encode_output(
    call: InferCall, wanted: WantedOutput, array: NDArray[Any], class_labels: Sequence[str]
) -> EncodedOutput:
    """Return an output as ``call`` wants it: raw, real, or its best classes; as JSON or as binary data.

    Args:
        call: The request.
        wanted: One of its outputs.
        array: What the model gave.
        class_labels: Of the model's classes, if it has any.
    """
    spec = wanted.spec
    is_real = call.is_real and is_quantized(spec)
    found, datatype = (dequantize(array, spec), "FP32") if is_real else (array, spec.datatype)
    if wanted.classes:
        texts = best_classes(found, wanted.classes, class_labels)
        return EncodedOutput((len(texts),), "BYTES", bytes_tensor(texts, is_binary=wanted.is_binary))
    # Little-endian and row-major, without a copy where it lies so already.
    data = np.ascontiguousarray(found).reshape(-1).view(np.uint8).data if wanted.is_binary else tensor_to_json(found)
    return EncodedOutput(found.shape, datatype, data)


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
            "parameters": _parameters(served),
        }
    )


def _parameters(served: ServedVersion) -> dict[str, Any]:
    """Return what Triton's configuration has no place for: labels and preprocessing, each as JSON in a text."""
    known = {"labels": served.class_labels, "preprocessing": served.preprocessing}
    return {name: {"string_value": msgspec.json.encode(value).decode()} for name, value in known.items() if value}


def _tensor_config(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": f"TYPE_{spec.datatype}", "dims": spec.shape}


def model_statistics(versions: Sequence[ServedVersion]) -> Response:
    """Return the statistics of ``versions``, as Triton's statistics extension has them."""
    return json_response({"model_stats": [statistics_of(served) for served in versions]})


def statistics_of(served: ServedVersion) -> dict[str, Any]:
    """Return what one version has done."""
    totals = served.queue.stats.totals
    count = totals.succeeded
    spent = totals.spent
    return {
        "name": served.name,
        "version": str(served.version),
        "last_inference": totals.last_ms,
        "inference_count": count,
        "execution_count": count,
        "inference_stats": {
            "success": _durations(count, sum(spent.by_name().values())),
            "fail": _durations(totals.failed, totals.failed_s),
            "queue": _durations(count, spent.queue_s),
            "compute_input": _durations(count, spent.parse_s + spent.input_s),
            "compute_infer": _durations(count, spent.invoke_s),
            "compute_output": _durations(count, spent.output_s),
        },
        "batch_stats": [],
    }


def _durations(count: int, total_s: float) -> dict[str, int]:
    return {"count": count, "ns": round(total_s * 1e9)}
