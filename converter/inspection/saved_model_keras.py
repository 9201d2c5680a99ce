"""What Keras 2 noted in a SavedModel: the architecture and how it was trained; in a child process.

Keras 2.4 and before wrote it into the objects themselves, later ones into ``keras_metadata.pb``. Keras 3's ``export``
writes none, on purpose. Source: ``keras/saving/legacy/saved_model`` in Keras 2.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.keras_config import (
    input_facts,
    layer_facts,
    output_names,
    training_facts,
    unsafe_layers,
)
from edgeferry.converter.inspection.keras_facts import KerasFacts
from edgeferry.converter.inspection.saved_model_facts import Variable

__all__ = ["keras_of"]

MAX_METADATA_BYTES = 64 * 1024 * 1024

_FILE = "keras_metadata.pb"
_MODELS = ("_tf_keras_model", "_tf_keras_sequential", "_tf_keras_network")
_MADE_WHILE_TRAINING = ("Adam", "SGD", "RMSprop", "iter", "learning_rate", "decay", "momentum", "total", "count")


def keras_of(folder: Path, objects: Any, variables: Sequence[Variable]) -> KerasFacts | None:
    """Return what Keras noted of the model in ``folder``, or None where it noted nothing that can be read.

    Args:
        folder: Of the SavedModel.
        objects: Its ``SavedObjectGraph``.
        variables: Of the objects, for the number of parameters.
    """
    notes = [*_notes_in_file(folder / _FILE), *_notes_in_objects(objects)]
    for identifier, text in notes:
        if identifier in _MODELS:
            note = _parsed(text)
            if note:
                return _facts(note, variables)
    return None


def _facts(note: Mapping[str, Any], variables: Sequence[Variable]) -> KerasFacts:
    model = note.get("model_config") if isinstance(note.get("model_config"), Mapping) else note
    of_model = [one for one in variables if not one.name.split("/")[0].startswith(_MADE_WHILE_TRAINING)]
    return KerasFacts(
        class_name=str(note.get("class_name", "")),
        name=str(note.get("name", "")),
        keras_version=str(note.get("keras_version") or ""),
        backend=str(note.get("backend") or ""),
        saved_at="",
        inputs=input_facts(model or {}),
        outputs=output_names(model or {}),
        layers=layer_facts(model or {}),
        training=training_facts(note.get("training_config")),
        parameters=sum(_elements(one) for one in of_model),
        parameter_bytes=sum(one.size_bytes or 0 for one in of_model),
        trainable_parameters=sum(_elements(one) for one in of_model if one.is_trainable),
        unsafe=unsafe_layers(model or {}),
    )


def _notes_in_file(path: Path) -> Iterator[tuple[str, str]]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - beside the modules that need it, in the child

    if not path.is_file() or path.stat().st_size > MAX_METADATA_BYTES:
        return
    try:
        saved = protobufs.saved_metadata().SavedMetadata.FromString(path.read_bytes())
    except DecodeError:  # a note beside the model: without it the model is as it was
        return
    yield from ((node.identifier, node.metadata) for node in saved.nodes)


def _notes_in_objects(objects: Any) -> Iterator[tuple[str, str]]:
    for node in objects.nodes:
        if node.WhichOneof("kind") == "user_object" and node.user_object.metadata:
            yield node.user_object.identifier, node.user_object.metadata


def _parsed(text: str) -> dict[str, Any]:
    try:
        note = json.loads(text)
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _elements(variable: Variable) -> int:
    return prod(variable.shape) if variable.shape is not None and min(variable.shape, default=0) >= 0 else 0
