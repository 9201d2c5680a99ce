"""Which models lie in a folder, for a serving process that is run alone.

    DIR/NAME/VERSION/model.tflite                  a bare model
    DIR/NAME/VERSION/artifact.json, model.tflite   an artifact
    DIR/NAME/VERSION/PROFILE/artifact.json, ...    as `edgeferry convert` writes it, for one profile

A version is a number without leading zeros; what is named otherwise is no version.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from edgeferry.agent.serving.registry import LoadOrder

__all__ = ["FolderError", "find_models"]

_MODEL, _MANIFEST = "model.tflite", "artifact.json"
_VERSION = re.compile(r"[1-9][0-9]{0,15}")


class FolderError(Exception):
    """The folder does not hold what it has to; the message is a sentence that says why."""


def find_models(folder: Path, *, all_versions: bool) -> list[LoadOrder]:
    """Return what to load from ``folder``: the latest version of each model, or all of them.

    Raises:
        FolderError: It cannot be read, holds no model, or one cannot be chosen.
    """
    try:
        orders = list(_orders(folder.resolve(), all_versions=all_versions))
    except OSError as err:
        raise FolderError(f"cannot read models from {folder}: {err.strerror}") from err
    if not orders:
        raise FolderError(f"{folder} holds no model; wanted NAME/VERSION/{_MODEL}, such as cats/1/{_MODEL}")
    return orders


def _orders(folder: Path, *, all_versions: bool) -> Iterator[LoadOrder]:
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        found = [path for path in model.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
        versions = sorted(found, key=lambda path: int(path.name))
        for version in versions if all_versions else versions[-1:]:
            place = _place(version)
            manifest = place / _MANIFEST
            has_manifest = manifest.is_file()
            yield LoadOrder(model.name, int(version.name), place / _MODEL, manifest if has_manifest else None, "")


def _place(version: Path) -> Path:
    if (version / _MODEL).is_file():
        return version
    below = sorted(path for path in version.iterdir() if (path / _MODEL).is_file())
    if len(below) == 1:
        return below[0]
    if below:
        profiles = ", ".join(path.name for path in below)
        raise FolderError(f"{version} holds artifacts for several profiles: {profiles}; keep the one of this machine")
    raise FolderError(f"{version} holds no {_MODEL}")
