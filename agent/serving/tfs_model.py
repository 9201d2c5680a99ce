"""TensorFlow Serving's methods on what is loaded, for REST and gRPC: which version, and how a method is carried out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError, UnknownVersionError
from edgeferry.agent.serving.invocation import Deadline, Stopwatch, run_rows
from edgeferry.agent.serving.registry import Registry, ServedVersion
from edgeferry.agent.serving.signatures import Signature, choose_signature
from edgeferry.agent.serving.stats import Durations
from edgeferry.agent.serving.tfs_paths import ModelSpec
from edgeferry.wire.messages import Code, Reason

__all__ = ["hold", "run", "signature", "status"]


@contextmanager
def hold(registry: Registry, spec: ModelSpec, *, routing_key: str = "") -> Iterator[ServedVersion]:
    """Give the version that ``spec`` means; it stays loaded until the block is left.

    Args:
        registry: What is loaded.
        spec: Which version.
        routing_key: Whose request it is, where ``spec`` leaves the version open; empty for anybody's.

    Raises:
        RequestError: It is not loaded, in TensorFlow Serving's words.
    """
    version = "" if spec.version is None else str(spec.version)
    try:
        with registry.hold(spec.name, version, label=spec.label, routing_key=lambda: routing_key) as served:
            yield served
    except UnknownVersionError as err:
        raise (
            _unknown_label(spec.label) if spec.label else _not_found(f"Servable not found for request: {spec}")
        ) from err


def signature(served: ServedVersion, name: str) -> Signature:
    """Return the signature of that name; an empty one is the default.

    Raises:
        RequestError: The model has no such signature.
    """
    return choose_signature(name, served.inputs, served.outputs)


def run(
    served: ServedVersion, chosen: Signature, tensors: Mapping[str, NDArray[Any]], deadline: Deadline, watch: Stopwatch
) -> tuple[dict[str, NDArray[Any]], Durations]:
    """Return the outputs for ``tensors``, both as the signature has them, and tell ``watch`` when they come and go.

    Raises:
        RequestError: As ``run_rows`` does.
    """
    inputs = chosen.to_model(tensors)
    watch.parsed()
    outputs, durations = run_rows(served, inputs, deadline)
    watch.answered()
    return chosen.to_client(outputs), durations


def status(registry: Registry, spec: ModelSpec) -> Sequence[int]:
    """Return the loaded versions that ``spec`` means, ascending; all of them are AVAILABLE.

    Raises:
        RequestError: There are none.
    """
    labels = registry.labels(spec.name)
    if spec.label and spec.label not in labels:
        raise _unknown_label(spec.label)
    wanted = labels[spec.label] if spec.label else spec.version
    versions = [each.version for each in registry.models().get(spec.name, ())]
    if wanted is not None and wanted not in versions:
        raise _not_found(f"Could not find version {wanted} of model {spec.name[:256]}")
    if not versions:
        raise _not_found(f"Could not find any versions of model {spec.name[:256]}")
    return versions if wanted is None else [wanted]


def _unknown_label(label: str) -> RequestError:
    return RequestError.bad(f"Unrecognized servable version label: {label[:256]}")


def _not_found(detail: str) -> RequestError:
    return RequestError(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, detail)
