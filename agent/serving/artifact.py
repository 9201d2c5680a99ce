"""Opens a model together with its manifest, and checks that they speak of the same tensors."""

import logging
from collections.abc import Sequence
from pathlib import Path

from edgeferry.agent.serving.errors import RequestError
from edgeferry.inference.description import same_tensors
from edgeferry.inference.model import Model, ModelError
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import ArtifactManifest, TensorSpec, decode_manifest
from edgeferry.wire.messages import Code, Reason

__all__ = ["open_model", "read_manifest"]

logger = logging.getLogger(__name__)


def read_manifest(path: Path) -> ArtifactManifest:
    """Return the manifest in the file at ``path``.

    Raises:
        RequestError: It cannot be read or is not a manifest.
    """
    try:
        return decode_manifest(path.read_bytes())
    except (OSError, WireError) as err:
        detail = f"manifest {path.name} cannot be used: {err}"
        raise RequestError(Code.FAILED_PRECONDITION, Reason.MANIFEST_MISMATCH, detail) from err


def open_model(path: Path, manifest: ArtifactManifest | None, *, threads: int) -> Model:
    """Return the model in the file at ``path``; without a manifest what it says of itself is all there is.

    Raises:
        RequestError: It cannot be loaded, or has other tensors than its manifest says.
    """
    try:
        model = Model.load(path, threads=threads)
    except ModelError as err:
        raise RequestError(Code.FAILED_PRECONDITION, Reason.MODEL_INVALID, str(err)) from err
    if model.description.doubt:
        logger.warning("%s; it is not believed", model.description.doubt)
    if manifest is None:
        return model
    for what, found, wanted in (
        ("inputs", model.inputs, manifest.inputs),
        ("outputs", model.outputs, manifest.outputs),
    ):
        if not same_tensors(found, wanted):
            detail = f"the model's {what} are {_listed(found)}; its manifest says {_listed(wanted)}"
            raise RequestError(Code.FAILED_PRECONDITION, Reason.MANIFEST_MISMATCH, detail)
    return model


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{s.name} {s.datatype}{list(s.shape)} scale {s.scale:g} zero {s.zero_point}" for s in specs)
