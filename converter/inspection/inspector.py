"""Looks into a model: finds out what lies at a path, and has a child process read it."""

import tempfile
from pathlib import Path

import msgspec

from edgeferry.converter.child import run_child
from edgeferry.converter.formats.registry import detect
from edgeferry.converter.inspection.artifact_folder import find_artifact, read_artifact
from edgeferry.converter.inspection.facts import Inspection
from edgeferry.converter.inspection.keras_facts import KerasFacts
from edgeferry.converter.inspection.saved_model_facts import SavedModelFacts
from edgeferry.converter.inspection.tflite_facts import TfliteFacts

__all__ = ["DEFAULT_DEADLINE_S", "inspect_model"]

DEFAULT_DEADLINE_S = 120.0  # reading takes seconds; what takes longer was made to


def inspect_model(path: Path, *, deadline_s: float = DEFAULT_DEADLINE_S) -> Inspection:
    """Return everything that the model at ``path`` tells about itself; nothing of it is run.

    Args:
        path: A SavedModel's folder, a ``.keras``, ``.h5``, ``.hdf5`` or ``.tflite`` file, or an artifact folder.
        deadline_s: How long reading may take.

    Raises:
        RequestError: Nothing is there.
        SourceError: It is none of these, or damaged.
        ChildError: Reading it crashed or took too long.
    """
    folder = find_artifact(path)
    manifest = read_artifact(folder) if folder else None
    model = manifest.model if manifest else path
    known = detect(model)
    with tempfile.TemporaryDirectory(prefix="edgeferry-inspect-") as scratch:
        result = run_child(
            "edgeferry.converter.inspection",
            {"path": str(model), "format": known.name},
            folder=Path(scratch),
            what=f"reading {model.name}",
            deadline_s=deadline_s,
        )
    details = msgspec.convert(result["details"], SavedModelFacts | KerasFacts | TfliteFacts)
    return Inspection(
        path=str(path),
        format=known.name,
        title=known.title,
        size_bytes=_size_bytes(model),
        details=details,
        artifact=manifest.facts if manifest else None,
    )


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
