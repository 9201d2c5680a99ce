"""TensorFlow Serving's REST interface: everything below ``/v1``."""

import time
from typing import Any

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.http_message import Request, Response
from edgeferry.agent.serving.invocation import Stopwatch
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.oip_response import json_response
from edgeferry.agent.serving.registry import Registry, ServedVersion
from edgeferry.agent.serving.request_headers import ROUTING_KEY, deadline_of, server_timing
from edgeferry.agent.serving.signatures import Signature, signatures_of
from edgeferry.agent.serving.stats import Durations
from edgeferry.agent.serving.tfs_examples import (
    classifications,
    encode_classifications,
    encode_regressions,
    examples_from_json,
    regressions,
    tensors_of_examples,
)
from edgeferry.agent.serving.tfs_json import parse_object
from edgeferry.agent.serving.tfs_model import hold, signature, status
from edgeferry.agent.serving.tfs_model import run as run_model
from edgeferry.agent.serving.tfs_paths import ModelSpec, TfsMethod, parse_path
from edgeferry.agent.serving.tfs_predict import decode_predict, encode_predict, signature_name
from edgeferry.wire.desired import TensorSpec

__all__ = ["TfsRest"]

_DATATYPES = {
    "BOOL": "DT_BOOL",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
}  # the others are called DT_ and their own name
_PREDICT_METHOD = "tensorflow/serving/predict"


class TfsRest:
    """Answers requests; many threads call ``handle`` at once."""

    def __init__(self, registry: Registry, metrics: Metrics, *, request_timeout_s: float) -> None:
        self._registry = registry
        self._metrics = metrics
        self._request_timeout_s = request_timeout_s

    def handle(self, request: Request) -> Response:
        """Return the answer to ``request``.

        Raises:
            RequestError: It is refused, in TensorFlow Serving's words.
        """
        route = parse_path(request.method, request.target)
        match route.method:
            case TfsMethod.STATUS:
                return _status_response(status(self._registry, route.spec))
            case TfsMethod.METADATA:
                with hold(self._registry, route.spec) as served:
                    return json_response(_metadata(served))
            case _:
                return self._run(request, route.method, route.spec)

    def _run(self, request: Request, method: TfsMethod, spec: ModelSpec) -> Response:
        began_s, watch = time.monotonic(), Stopwatch()
        with hold(self._registry, spec, routing_key=request.headers.get(ROUTING_KEY, "")) as served:
            try:
                body, run = self._carry_out(request, method, served, watch)
            except RequestError as err:
                self._metrics.refused(served.name, err)
                raise
            spent, latency_s = watch.written(served, run), time.monotonic() - began_s
            self._metrics.answered(served.name, method, "REST", latency_s=latency_s, spent=spent)
        return Response(200, [body], headers=server_timing(spent))

    def _carry_out(
        self, request: Request, method: TfsMethod, served: ServedVersion, watch: Stopwatch
    ) -> tuple[bytes, Durations]:
        deadline = deadline_of(request.headers, self._request_timeout_s)
        if method is TfsMethod.PREDICT:
            call = decode_predict(request.body, lambda name: signature(served, name))
            outputs, durations = run_model(served, call.signature, call.tensors, deadline, watch)
            return encode_predict(outputs, by_row=call.by_row), durations
        document = parse_object(request.body)
        chosen = signature(served, signature_name(document))
        examples = examples_from_json(document)
        outputs, durations = run_model(served, chosen, tensors_of_examples(examples, chosen.inputs), deadline, watch)
        if method is TfsMethod.CLASSIFY:
            return encode_classifications(classifications(outputs, len(examples), served.class_labels)), durations
        return encode_regressions(regressions(outputs, len(examples))), durations


def _status_response(versions: Any) -> Response:
    fine = {"error_code": "OK", "error_message": ""}
    states = [{"version": str(version), "state": "AVAILABLE", "status": fine} for version in versions]
    return json_response({"model_version_status": states})


def _metadata(served: ServedVersion) -> dict[str, Any]:
    signatures = signatures_of(served.inputs, served.outputs)
    # The key stands twice in TensorFlow Serving's answers: the metadata's name, and a message of one field.
    return {
        "model_spec": {"name": served.name, "signature_name": "", "version": str(served.version)},
        "metadata": {"signature_def": {"signature_def": {name: _signature(s) for name, s in signatures.items()}}},
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "inputs": {spec.name: _tensor(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor(spec) for spec in signature.outputs},
        "method_name": _PREDICT_METHOD,
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {
        "dtype": _DATATYPES.get(spec.datatype, f"DT_{spec.datatype}"),
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in spec.shape], "unknown_rank": False},
        "name": spec.name,
    }
