"""What `inspect_model` tells: one `Inspection`, whose details depend on the format. Plain data, the same as JSON."""

from typing import Any

import msgspec

from edgeferry.converter.inspection.keras_facts import KerasFacts
from edgeferry.converter.inspection.saved_model_facts import SavedModelFacts
from edgeferry.converter.inspection.tflite_facts import TfliteFacts

__all__ = ["ArtifactFacts", "ArtifactFile", "Inspection"]


class ArtifactFile(msgspec.Struct, frozen=True):
    """A file that an artifact's manifest names.

    Attributes:
        role: ``model`` or ``selftest``.
        path: Its name in the folder.
        size_bytes: As the manifest says.
        problem: What is wrong with the file that lies there; empty when it has the manifest's hash.
    """

    role: str
    path: str
    size_bytes: int
    problem: str = ""


class ArtifactFacts(msgspec.Struct, frozen=True):
    """What ``artifact.json`` says beside what the model itself tells.

    Attributes:
        files: Every blob of the manifest, compared with it.
        memory_bytes: Peak of loading and running, measured on the build host.
        evaluation: Metric, scores and number of samples.
        labels: Of the classes, where they are known.
    """

    name: str
    version: int
    profile: str
    scheme: str
    files: tuple[ArtifactFile, ...]
    memory_bytes: int
    evaluation: dict[str, Any]
    labels: tuple[str, ...] = ()


class Inspection(msgspec.Struct, frozen=True):
    """Everything that a model tells about itself.

    Attributes:
        path: Where it was read.
        format: ``saved_model``, ``keras``, ``h5`` or ``tflite``; of an artifact folder, that of its model.
        title: What people call the format.
        size_bytes: Of the file, or of all files in the folder.
        details: What the format tells.
        artifact: What the manifest says, where the path is an artifact folder.
    """

    path: str
    format: str
    title: str
    size_bytes: int
    details: SavedModelFacts | KerasFacts | TfliteFacts
    artifact: ArtifactFacts | None = None
