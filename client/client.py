"""`Client` and `predict`: which protocol an address means, and what a caller gets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self, overload
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeferry.client.call import Answer, Call, tensors_of
from edgeferry.client.errors import InferenceError
from edgeferry.wire.messages import Code

__all__ = ["Client", "predict"]

DEFAULT_TIMEOUT_S = 30.0  # the server's own


class Transport(Protocol):
    """One way to a device."""

    def infer(self, call: Call) -> Answer:
        """Return the answer, or raise InferenceError."""

    def close(self) -> None:
        """Give everything back."""


class Client:
    """A connection to a device's models, made when it is first needed and kept; any thread may use it.

    Args:
        url: ``http://HOST:PORT`` and ``https://`` for REST, ``grpc://`` and ``grpcs://`` for gRPC, ``mqtt://HOST/DEVICE``
            and ``mqtts://`` for a device behind a broker; ``mqtt://HOST/group:NAME`` for whichever of a group takes it.
        token: What the device wants to be shown beyond its own machine (REST, gRPC).
        ca_file: PEM file of the certificate that the server's is checked with; the system's where it is None.
        user: At the broker, which is also the client id (MQTT).
        password: Of ``user``.
        topic_root: Of the fleet (MQTT).

    Raises:
        ValueError: The address is none of these.
        ModuleNotFoundError: gRPC without grpcio; ``pip install "edgeferry[grpc]"``.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ca_file: Path | str | None = None,
        user: str = "",
        password: str = "",
        topic_root: str = "edgeferry/v1",
    ) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError(f"{url!r} is no address; wanted http://HOST:PORT, grpc://HOST:PORT or mqtt://HOST/DEVICE")
        ca_path = Path(ca_file) if ca_file else None
        self._transport: Transport
        match parts.scheme:
            case "http" | "https":
                from edgeferry.client.rest import RestTransport  # noqa: PLC0415 - each brings what only it needs

                self._transport = RestTransport(parts, token, ca_path)
            case "grpc" | "grpcs":
                from edgeferry.client.grpc import GrpcTransport  # noqa: PLC0415

                self._transport = GrpcTransport(parts, token, ca_path)
            case "mqtt" | "mqtts":
                from edgeferry.client.mqtt import MqttTransport  # noqa: PLC0415

                self._transport = MqttTransport(parts, user, password, ca_path, topic_root)
            case _:
                raise ValueError(
                    f"{url!r}: {parts.scheme!r} is not known; wanted http, https, grpc, grpcs, mqtt, mqtts"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: str | int = "",
        routing_key: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Answer:
        """Return all outputs by name, and the version that has answered.

        Args:
            model: Its name.
            inputs: By name, in the model's shapes. Real numbers, or the model's own integers: the outputs come back
                alike. The name may be empty where the model has one input.
            version: A number or a label; empty for the one that answers by itself.
            routing_key: Whose request it is, so that the same version answers each time while a canary is out.
            timeout_s: How long the answer may take; a request that still waits then is not run.

        Raises:
            InferenceError: There is no answer; its code says why.
        """
        if not timeout_s > 0:
            raise InferenceError(Code.DEADLINE_EXCEEDED, f"timeout_s is {timeout_s}, wanted more than 0")
        return self._transport.infer(Call(model, str(version), tensors_of(inputs), routing_key, timeout_s))

    @overload
    def predict(self, model: str, inputs: Mapping[str, ArrayLike], **options: Any) -> dict[str, NDArray[Any]]: ...
    @overload
    def predict(self, model: str, inputs: ArrayLike, **options: Any) -> NDArray[Any]: ...
    def predict(self, model: str, inputs: Any, **options: Any) -> Any:
        """Return the output for an array, or all outputs by name for arrays by name.

        Args:
            model: Its name.
            inputs: An array, for a model with one input and one output; or arrays by name.
            options: ``version``, ``routing_key`` and ``timeout_s``, as `infer` takes them.

        Raises:
            InferenceError: There is no answer, or for an array there are several outputs.
        """
        if isinstance(inputs, Mapping):
            return dict(self.infer(model, inputs, **options).outputs)
        outputs = self.infer(model, {"": np.asarray(inputs)}, **options).outputs
        if len(outputs) != 1:
            detail = f"{model} has the outputs {', '.join(outputs)}; give the input by name, and get them by name"
            raise InferenceError(Code.INVALID_ARGUMENT, detail)
        return next(iter(outputs.values()))


@overload
def predict(url: str, model: str, inputs: Mapping[str, ArrayLike], **options: Any) -> dict[str, NDArray[Any]]: ...
@overload
def predict(url: str, model: str, inputs: ArrayLike, **options: Any) -> NDArray[Any]: ...
def predict(url: str, model: str, inputs: Any, **options: Any) -> Any:
    """Return what ``model`` at ``url`` answers, over a connection for this request alone.

    Who asks more than once keeps a `Client`, which takes the options that are not those of its `predict`.

    Raises:
        InferenceError: There is no answer.
    """
    asked = {name: options.pop(name) for name in ("version", "routing_key", "timeout_s") if name in options}
    with Client(url, **options) as client:
        return client.predict(model, inputs, **asked)
