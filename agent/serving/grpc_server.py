"""The gRPC listener: services by path, with messages of our own instead of generated code.

Imported only where gRPC is switched on: grpcio takes some 20 MiB. Only a call's path and its messages' field numbers
are on the wire, so unmodified clients of TensorFlow Serving and of Triton cannot tell the difference.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.guard import Guard
from edgeferry.agent.serving.invocation import Caller, Deadline
from edgeferry.agent.serving.listening import ListenError
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.oip_grpc import OipGrpc
from edgeferry.agent.serving.protobuf import decode_message, encode_message
from edgeferry.agent.serving.registry import Registry
from edgeferry.agent.serving.request_headers import ROUTING_KEY
from edgeferry.agent.serving.tfs_grpc import TfsGrpc
from edgeferry.wire.codec import WireError

__all__ = ["GrpcServer"]

logger = logging.getLogger(__name__)

Method = Callable[[bytes, Caller], bytes]  # from the request's bytes to the answer's

MAX_CALLS = 128  # twice a version's queue, so that one that hangs leaves threads for the others
_MAX_DETAIL_CHARACTERS = 1024  # details travel in a header, and those have a limit
_MAX_TIMEOUT_S = 3600.0
_SERVING = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus


class GrpcServer:
    """A gRPC server on one address."""

    def __init__(
        self, registry: Registry, metrics: Metrics, guard: Guard, *, request_timeout_s: float, max_message_bytes: int
    ) -> None:
        """Store the parts.

        Args:
            registry: What is loaded.
            metrics: Told of every call.
            guard: Encryption and token.
            request_timeout_s: For calls without a deadline of their own.
            max_message_bytes: Of one request or answer.
        """
        self._guard = guard
        self._request_timeout_s = request_timeout_s
        self._services = _services(registry, metrics)
        self._server = grpc.server(
            ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="grpc"),
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                ("grpc.so_reuseport", 0),  # a taken port is an error, not a lottery
            ],
            maximum_concurrent_rpcs=MAX_CALLS,
        )

    def start(self, address: str) -> int:
        """Answer calls at ``address``, HOST:PORT; return the port.

        Raises:
            ListenError: It cannot be listened on.
        """
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(service, {m: self._handler(f) for m, f in methods.items()})
                for service, methods in self._services.items()
            ]
        )
        try:
            port = self._add_port(address)
        except (RuntimeError, OSError) as err:
            raise ListenError(f"cannot listen on {address}: {err}; is another process there?") from err
        self._server.start()
        return port

    def stop(self, grace_s: float) -> threading.Event:
        """Take no more calls, and let those that run finish for ``grace_s``; return what tells that it is over."""
        return self._server.stop(grace_s)

    def _add_port(self, address: str) -> int:
        if not (self._guard.certificate and self._guard.key):
            return self._server.add_insecure_port(address)
        pair = (self._guard.key.read_bytes(), self._guard.certificate.read_bytes())
        return self._server.add_secure_port(address, grpc.ssl_server_credentials([pair]))

    def _handler(self, method: Method) -> "grpc.RpcMethodHandler[bytes, bytes]":  # generic in the stubs alone
        # Without (de)serializers a handler gets and gives bytes, and may itself say what is wrong with them.
        return grpc.unary_unary_rpc_method_handler(lambda body, context: self._answer(method, body, context))

    def _answer(self, method: Method, body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            self._guard.check(_metadata(context, "authorization"))
            return method(body, Caller(self._deadline(context), _metadata(context, ROUTING_KEY)))
        except RequestError as err:
            code, detail = grpc.StatusCode[err.code], str(err)
        except WireError as err:
            code, detail = grpc.StatusCode.INVALID_ARGUMENT, str(err)
        except Exception:  # the outermost frame of a call: the client is told, the others go on
            logger.exception("a gRPC call failed")
            code, detail = grpc.StatusCode.INTERNAL, "internal error; see the log of the serving process"
        context.abort(code, detail[:_MAX_DETAIL_CHARACTERS])
        raise AssertionError("abort() raises")

    def _deadline(self, context: grpc.ServicerContext) -> Deadline:
        remaining_s = context.time_remaining()
        is_endless = remaining_s is None or remaining_s > _MAX_TIMEOUT_S  # grpcio says centuries for no deadline
        timeout_s = self._request_timeout_s if is_endless else remaining_s
        return Deadline(time.monotonic() + timeout_s, is_patient=timeout_s >= self._request_timeout_s)


def _services(registry: Registry, metrics: Metrics) -> Mapping[str, Mapping[str, Method]]:
    tfs, oip = TfsGrpc(registry, metrics), OipGrpc(registry, metrics)
    return {
        "tensorflow.serving.PredictionService": {
            "Predict": tfs.predict,
            "Classify": tfs.classify,
            "Regress": tfs.regress,
            "GetModelMetadata": tfs.get_model_metadata,
        },
        "tensorflow.serving.ModelService": {"GetModelStatus": tfs.get_model_status},
        "inference.GRPCInferenceService": {
            "ServerLive": oip.server_live,
            "ServerReady": oip.server_live,
            "ModelReady": oip.model_ready,
            "ServerMetadata": oip.server_metadata,
            "ModelMetadata": oip.model_metadata,
            "ModelInfer": oip.model_infer,
            "ModelConfig": oip.model_config,
            "ModelStatistics": oip.model_statistics,
            "RepositoryIndex": oip.repository_index,
        },
        "grpc.health.v1.Health": {"Check": lambda body, _: _health(registry, body)},
    }


def _health(registry: Registry, body: bytes) -> bytes:
    """Return SERVING for the whole server, for a service of it, and for a loaded model."""
    name = decode_message(protos.HEALTH_REQUEST, body).get("service", "")
    if name and "." not in name:
        with registry.hold(name):
            pass
    return encode_message(protos.HEALTH_RESPONSE, {"status": _SERVING})


def _metadata(context: grpc.ServicerContext, name: str) -> str:
    metadata: Any = context.invocation_metadata() or ()
    return next((value for key, value in metadata if key == name and isinstance(value, str)), "")
