"""TensorFlow Serving's gRPC services: PredictionService and ModelService.

Source: tensorflow/serving, apis/*.proto and servables/tensorflow/{predict_util,get_model_metadata_impl}.cc.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.invocation import Caller, Deadline, Stopwatch
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.protobuf import Fields, Schema, decode_message, encode_message
from edgeferry.agent.serving.queue import Tensors
from edgeferry.agent.serving.registry import Registry, ServedVersion
from edgeferry.agent.serving.signatures import DEFAULT, RAW, Signature, signatures_of
from edgeferry.agent.serving.stats import Durations
from edgeferry.agent.serving.tfs_examples import Example, classifications, regressions, tensors_of_examples
from edgeferry.agent.serving.tfs_model import hold, signature, status
from edgeferry.agent.serving.tfs_model import run as run_model
from edgeferry.agent.serving.tfs_paths import ModelSpec
from edgeferry.agent.serving.tfs_tensors import DT, tensor_from_proto, tensor_to_proto
from edgeferry.inference.quantization import datatype_of, is_quantized
from edgeferry.wire.desired import TensorSpec

__all__ = ["TfsGrpc"]

_AVAILABLE = 30  # ModelVersionStatus.State
_SIGNATURE_DEF = "signature_def"
_SIGNATURE_DEF_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_PREDICT_METHOD = "tensorflow/serving/predict"

_Answer = tuple[Fields, Durations]
_CarryOut = Callable[[ServedVersion, Fields, Deadline, Stopwatch], _Answer]


class TfsGrpc:
    """Answers calls; many threads call the methods at once, with a request's bytes, and get the answer's."""

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self._registry = registry
        self._metrics = metrics

    def predict(self, body: bytes, caller: Caller) -> bytes:
        """Run a model on tensors."""
        request = decode_message(protos.PREDICT_REQUEST, body)
        return self._run("predict", request, protos.PREDICT_RESPONSE, caller, carry_out=_predict)

    def classify(self, body: bytes, caller: Caller) -> bytes:
        """Run a model on examples, for the scores of its classes."""
        request = decode_message(protos.EXAMPLES_REQUEST, body)
        return self._run("classify", request, protos.CLASSIFICATION_RESPONSE, caller, carry_out=_classify)

    def regress(self, body: bytes, caller: Caller) -> bytes:
        """Run a model on examples, for one value each."""
        request = decode_message(protos.EXAMPLES_REQUEST, body)
        return self._run("regress", request, protos.REGRESSION_RESPONSE, caller, carry_out=_regress)

    def get_model_metadata(self, body: bytes, _caller: Caller) -> bytes:
        """Tell a model's signatures."""
        request = decode_message(protos.METADATA_REQUEST, body)
        wanted = request.get("metadata_field", [])
        if not wanted:
            raise RequestError.bad("GetModelMetadataRequest must specify at least one metadata_field")
        for name in wanted:
            if name != _SIGNATURE_DEF:
                raise RequestError.bad(f"Metadata field {name[:256]} is not supported")
        with hold(self._registry, _model_spec(request)) as served:
            signatures = signatures_of(served.inputs, served.outputs)
            packed = encode_message(
                protos.SIGNATURE_DEF_MAP, {_SIGNATURE_DEF: {name: _signature(s) for name, s in signatures.items()}}
            )
            metadata = {_SIGNATURE_DEF: {"type_url": _SIGNATURE_DEF_TYPE, "value": packed}}
            answer = {"model_spec": _resolved(served, ""), "metadata": metadata}
        return encode_message(protos.METADATA_RESPONSE, answer)

    def get_model_status(self, body: bytes, _caller: Caller) -> bytes:
        """Tell a model's loaded versions."""
        versions = status(self._registry, _model_spec(decode_message(protos.STATUS_REQUEST, body)))
        states = [{"version": version, "state": _AVAILABLE, "status": {}} for version in versions]
        return encode_message(protos.STATUS_RESPONSE, {"model_version_status": states})

    def _run(self, method: str, request: Fields, schema: Schema, caller: Caller, *, carry_out: _CarryOut) -> bytes:
        began_s, watch = time.monotonic(), Stopwatch()
        with hold(self._registry, _model_spec(request), routing_key=caller.routing_key) as served:
            try:
                fields, run = carry_out(served, request, caller.deadline, watch)
            except RequestError as err:
                self._metrics.refused(served.name, err)
                raise
            fields["model_spec"] = _resolved(served, request["model_spec"].get("signature_name") or DEFAULT)
            answer = encode_message(schema, fields)
            spent, latency_s = watch.written(served, run), time.monotonic() - began_s
            self._metrics.answered(served.name, method, "GRPC", latency_s=latency_s, spent=spent)
        return answer


def _model_spec(request: Fields) -> ModelSpec:
    spec = request.get("model_spec")
    if not spec:
        raise RequestError.bad("Missing ModelSpec")
    version = spec.get("version", {}).get("value", 0)  # OpenVINO's client says 0 for no version
    return ModelSpec(spec.get("name", ""), version or None, spec.get("version_label", ""))


def _resolved(served: ServedVersion, signature_name: str) -> Fields:
    return {"name": served.name, "version": {"value": served.version}, "signature_name": signature_name}


def _chosen(served: ServedVersion, request: Fields) -> Signature:
    return signature(served, request["model_spec"].get("signature_name", ""))


def _predict(served: ServedVersion, request: Fields, deadline: Deadline, watch: Stopwatch) -> _Answer:
    chosen = _chosen(served, request)
    protos_by_name = request.get("inputs", {})
    _check_names(chosen.inputs, protos_by_name)
    tensors = {name: tensor_from_proto(name, proto) for name, proto in protos_by_name.items()}
    chosen = _signature_for(chosen, tensors)
    tensors = {spec.name: _as_wanted(tensors[spec.name], spec) for spec in chosen.inputs}
    outputs, durations = run_model(served, chosen, tensors, deadline, watch)
    wanted = _filtered(request.get("output_filter", []), outputs)
    return {"outputs": {name: tensor_to_proto(outputs[name]) for name in wanted}}, durations


def _check_names(specs: Sequence[TensorSpec], given: Mapping[str, Any]) -> None:
    wanted = {spec.name for spec in specs}
    if given.keys() != wanted:
        sent, needed = _set(given.keys()), _set(wanted)
        raise RequestError.bad(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({sent}) != len({needed}). "
            f"Sent extra: {_set(given.keys() - wanted)}. Missing but required: {_set(wanted - given.keys())}."
        )


def _set(names: Collection[str]) -> str:
    return f"{{{','.join(sorted(names))[:256]}}}"


def _signature_for(chosen: Signature, tensors: Mapping[str, NDArray[Any]]) -> Signature:
    """Return the raw signature when the default one was asked for, but with the model's own integers."""
    own = [spec for spec in chosen.model_inputs if is_quantized(spec)]
    if chosen.name == RAW or not own or any(datatype_of(tensors[s.name].dtype) != s.datatype for s in own):
        return chosen
    return signatures_of(chosen.model_inputs, chosen.model_outputs)[RAW]


def _as_wanted(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    datatype = datatype_of(array.dtype)
    if datatype == spec.datatype:
        return array
    if spec.datatype == "FP32" and datatype == "FP16":
        return array.astype(np.float32)
    raise RequestError.bad(f"input {spec.name!r} is {datatype}, wanted {spec.datatype}")


def _filtered(wanted: Sequence[str], outputs: Tensors) -> Sequence[str]:
    for name in wanted:
        if name not in outputs:
            raise RequestError.bad(
                f"output tensor alias not found in signature: {name[:256]} "
                f"Outputs expected to be in the set {_set(outputs)}."
            )
    return wanted or list(outputs)


def _classify(served: ServedVersion, request: Fields, deadline: Deadline, watch: Stopwatch) -> _Answer:
    examples = _examples(request.get("input", {}))
    outputs, durations = _run_examples(served, request, examples, deadline, watch)
    found = classifications(outputs, len(examples), served.class_labels)
    rows = [{"classes": [{"label": each.label, "score": each.score} for each in row]} for row in found]
    return {"result": {"classifications": rows}}, durations


def _regress(served: ServedVersion, request: Fields, deadline: Deadline, watch: Stopwatch) -> _Answer:
    examples = _examples(request.get("input", {}))
    outputs, durations = _run_examples(served, request, examples, deadline, watch)
    return {"result": {"regressions": [{"value": v} for v in regressions(outputs, len(examples))]}}, durations


def _run_examples(
    served: ServedVersion, request: Fields, examples: Sequence[Example], deadline: Deadline, watch: Stopwatch
) -> tuple[Tensors, Durations]:
    chosen = _chosen(served, request)
    return run_model(served, chosen, tensors_of_examples(examples, chosen.inputs), deadline, watch)


def _examples(message: Fields) -> list[Example]:
    with_context = message.get("example_list_with_context", {})
    context = _features(with_context.get("context", {}))
    examples = (message.get("example_list") or with_context).get("examples", [])
    if not examples:
        raise RequestError.bad("Input is empty.")
    return [{**context, **_features(example)} for example in examples]


def _features(example: Fields) -> dict[str, Sequence[Any]]:
    return {name: _values(feature) for name, feature in example.get("features", {}).get("feature", {}).items()}


def _values(feature: Fields) -> Sequence[Any]:
    if "bytes_list" in feature:
        return [bytes(value) for value in feature["bytes_list"].get("value", [])]
    numbers: Fields = feature.get("float_list") or feature.get("int64_list") or {}
    values: list[Any] = numbers.get("value", np.zeros(0)).tolist()
    return values


def _signature(found: Signature) -> Fields:
    return {
        "inputs": {spec.name: _tensor_info(spec) for spec in found.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in found.outputs},
        "method_name": _PREDICT_METHOD,
    }


def _tensor_info(spec: TensorSpec) -> Fields:
    shape = {"dim": [{"size": size} for size in spec.shape]}
    return {"name": spec.name, "dtype": DT[spec.datatype], "tensor_shape": shape}
