"""Reads ``.keras`` and Keras's HDF5 files, without Keras and without running what is in them; in a child process.

Source of the layouts: ``keras/src/saving/saving_lib.py`` (a zip file with ``config.json`` and ``model.weights.h5``) and
``keras/src/legacy/saving/legacy_h5_format.py``.
"""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py

from edgeferry.converter.errors import SourceError
from edgeferry.converter.inspection.keras_config import (
    input_facts,
    layer_facts,
    output_names,
    training_facts,
    unsafe_layers,
)
from edgeferry.converter.inspection.keras_facts import KerasFacts, LayerFacts, WeightFacts
from edgeferry.converter.inspection.keras_weights import Stored, place_by_layer, place_by_path

__all__ = ["read_archive", "read_hdf5"]

MAX_JSON_BYTES = 64 * 1024 * 1024  # the largest architectures are some MB
MAX_INFLATED_BYTES = 4 * 1024 * 1024 * 1024  # Keras stores weights as they are; only foreign tools compress them
MAX_RATIO = 100  # of floats, compression spares a tenth; what shrinks a hundredfold is no model

_WEIGHTS = "model.weights.h5"
_REMEDY = "copy or save it anew"
_DAMAGE = (KeyError, OSError, RuntimeError, TypeError, ValueError)  # what h5py raises of a damaged file


def read_archive(path: Path) -> KerasFacts:
    """Return what the ``.keras`` file at ``path`` tells.

    Raises:
        SourceError: It is damaged, or too large where a sound file is small.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            config = _json_member(path, archive, "config.json")
            about = _json_member(path, archive, "metadata.json") if "metadata.json" in archive.namelist() else {}
            stored = _archived_weights(path, archive)
    except RecursionError:  # a RuntimeError of its own kind, with a message of its own
        raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as err:
        raise SourceError(f"{path}: is a damaged Keras 3 model, probably cut off ({err}); {_REMEDY}") from err
    origin = {"keras_version": about.get("keras_version"), "saved_at": about.get("date_saved")}
    return _facts(config, origin, config.get("compile_config"), stored, place_by_path)


def read_hdf5(path: Path) -> KerasFacts:
    """Return what the Keras HDF5 file at ``path`` tells.

    Raises:
        SourceError: It is damaged, or holds no Keras model.
    """
    try:
        with h5py.File(path, "r") as file:
            attributes = {name: _text(file.attrs[name]) for name in file.attrs if isinstance(name, str)}
            stored = _stored(file)
            order = _weight_names(file)
    except _DAMAGE as err:
        raise SourceError(f"{path}: is a damaged HDF5 file, probably cut off ({_line(err)}); {_REMEDY}") from err
    if "model_config" not in attributes:
        what = "only weights" if stored else "no model"
        raise SourceError(
            f"{path}: is an HDF5 file with {what}, without an architecture (model_config); "
            "save the whole model, model.save(path)"
        )
    config = _parsed(path, "model_config", attributes["model_config"])
    compiled = (
        _parsed(path, "training_config", attributes["training_config"]) if "training_config" in attributes else {}
    )
    origin = {"keras_version": attributes.get("keras_version"), "backend": attributes.get("backend")}
    return _facts(config, origin, compiled, [stored[name] for name in order if name in stored], place_by_layer)


_Placing = Callable[[tuple[LayerFacts, ...], list[Stored]], tuple[tuple[LayerFacts, ...], tuple[WeightFacts, ...]]]


def _facts(
    config: Mapping[str, Any],
    origin: Mapping[str, Any],
    compiled: Mapping[str, Any] | None,
    stored: list[Stored],
    place: _Placing,
) -> KerasFacts:
    of_model = [one for one in stored if not one.is_optimizers]
    layers, unplaced = place(layer_facts(config), of_model)
    weights = [one.facts for one in of_model]
    named = config.get("config")
    return KerasFacts(
        class_name=str(config.get("class_name", "")),
        name=str(named.get("name", "")) if isinstance(named, Mapping) else "",
        keras_version=str(origin.get("keras_version") or ""),
        backend=str(origin.get("backend") or ""),
        saved_at=str(origin.get("saved_at") or ""),
        inputs=input_facts(config),
        outputs=output_names(config),
        layers=layers,
        training=training_facts(compiled),
        parameters=sum(weight.parameters for weight in weights),
        parameter_bytes=sum(weight.size_bytes for weight in weights),
        trainable_parameters=sum(_trainable(layer) for layer in layers) + sum(one.parameters for one in unplaced),
        unplaced=unplaced,
        optimizer_bytes=sum(one.facts.size_bytes for one in stored if one.is_optimizers),
        unsafe=unsafe_layers(config),
    )


def _trainable(layer: LayerFacts) -> int:
    if not layer.is_trainable:
        return 0
    own = sum(weight.parameters for weight in layer.weights if weight.is_trainable)
    return own + sum(_trainable(one) for one in layer.layers)


def _json_member(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    info = archive.getinfo(name)
    if info.file_size > MAX_JSON_BYTES:
        raise SourceError(
            f"{path}: its {name} unpacks to {info.file_size} bytes, wanted {MAX_JSON_BYTES} at most; "
            "this is no sound Keras model"
        )
    with archive.open(info) as member:
        return _parsed(path, name, member.read(MAX_JSON_BYTES + 1))


def _parsed(path: Path, name: str, text: str | bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, UnicodeDecodeError) as err:
        raise SourceError(f"{path}: its {name} is not JSON ({err}); {_REMEDY}") from err
    if not isinstance(parsed, dict):
        raise SourceError(f"{path}: its {name} is a {type(parsed).__name__}, wanted an object; {_REMEDY}")
    return parsed


def _archived_weights(path: Path, archive: zipfile.ZipFile) -> list[Stored]:
    if _WEIGHTS not in archive.namelist():  # sharded, or an architecture alone
        return []
    info = archive.getinfo(_WEIGHTS)
    if info.compress_type != zipfile.ZIP_STORED and (
        info.file_size > MAX_INFLATED_BYTES or info.file_size > MAX_RATIO * max(1, info.compress_size)
    ):
        raise SourceError(
            f"{path}: its {_WEIGHTS} unpacks from {info.compress_size} to {info.file_size} bytes; "
            "Keras does not write such files, and it may be a trap"
        )
    try:
        with archive.open(info) as member, h5py.File(member, "r") as file:
            return list(_stored(file).values())
    except _DAMAGE as err:
        raise SourceError(f"{path}: its {_WEIGHTS} is damaged ({_line(err)}); {_REMEDY}") from err


def _stored(file: h5py.File) -> dict[str, Stored]:
    """Return every array in the file by its path; links to other files are not followed."""
    found: dict[str, Stored] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None:
            owner = node.parent.attrs.get("name", "")
            found[name] = Stored(
                path=tuple(name.split("/")),
                owner=_text(owner),
                facts=WeightFacts(
                    name=name,
                    type=str(node.dtype),
                    shape=tuple(int(size) for size in node.shape),
                    parameters=int(node.size),
                    size_bytes=int(node.size) * node.dtype.itemsize,
                ),
            )

    file.visititems(note)
    return found


def _weight_names(file: h5py.File) -> list[str]:
    """Return the paths of all weights, layer by layer in the order of the model."""
    group = _group(file, "model_weights")
    if group is None:
        return []
    paths = []
    layers = [_text(name) for name in group.attrs.get("layer_names", ())] or list(group)
    for layer in [*layers, "top_level_model_weights"]:
        inner = _group(group, layer)
        names = () if inner is None else inner.attrs.get("weight_names", ())
        paths += [f"model_weights/{layer}/{_text(name)}" for name in names]
    optimizer = _group(file, "optimizer_weights")
    names = () if optimizer is None else optimizer.attrs.get("weight_names", ())
    return [*paths, *(f"optimizer_weights/{_text(name)}" for name in names)]


def _group(parent: h5py.Group, name: str) -> h5py.Group | None:
    """Return the group of that name which lies in ``parent`` itself: a link could lead to any file of this machine."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
        return None
    found = parent[name]
    return found if isinstance(found, h5py.Group) else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:200] or type(err).__name__
