"""The variables that lie beside a SavedModel, told from their index; in a child process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.bundle import TableError, entries_of
from edgeferry.converter.inspection.saved_model_facts import Variable
from edgeferry.converter.inspection.saved_model_objects import type_name

__all__ = ["StoredVariables", "read_variables"]

MAX_INDEX_BYTES = 256 * 1024 * 1024  # some hundred bytes for each variable

_INDEX = "variables.index"
_HEADER = b""
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"  # which object each variable belongs to, no variable itself


@dataclass(frozen=True, slots=True)
class StoredVariables:
    """What lies in the folder ``variables``.

    Attributes:
        variables: By the names that the index has.
        file_bytes: Of all its files of values.
    """

    variables: tuple[Variable, ...]
    file_bytes: int


def read_variables(folder: Path) -> tuple[StoredVariables, tuple[str, ...]]:
    """Return the variables in ``folder``, and sentences about files that are missing or cut off.

    Raises:
        TableError: The index is damaged.
    """
    index = folder / _INDEX
    if not index.is_file():
        return StoredVariables((), 0), ()
    if index.stat().st_size > MAX_INDEX_BYTES:
        raise TableError(f"it has more than {MAX_INDEX_BYTES} bytes")
    shards, entries = _parsed(index.read_bytes())
    wanted_bytes = [0] * shards
    for entry in entries.values():
        if entry.shard_id < shards:
            wanted_bytes[entry.shard_id] = max(wanted_bytes[entry.shard_id], entry.offset + entry.size)
    files = [folder / f"variables.data-{at:05}-of-{shards:05}" for at in range(shards)]
    found_bytes = [file.stat().st_size if file.is_file() else -1 for file in files]
    problems = [
        f"variables/{file.name} " + ("is missing" if found < 0 else f"is cut off: it has {found} of {wanted} bytes")
        for file, found, wanted in zip(files, found_bytes, wanted_bytes, strict=True)
        if found < wanted
    ]
    variables = tuple(_variable(name, entry) for name, entry in entries.items() if name != _OBJECTS)
    return StoredVariables(variables, sum(max(0, found) for found in found_bytes)), tuple(problems)


def _parsed(table: bytes) -> tuple[int, dict[str, Any]]:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - beside the modules that need it, in the child

    bundle = protobufs.tensor_bundle()
    shards, entries = 1, {}
    try:
        for key, value in entries_of(table):
            if key == _HEADER:
                shards = min(bundle.BundleHeaderProto.FromString(value).num_shards, 100_000)
            else:
                entries[key.decode(errors="replace")] = bundle.BundleEntryProto.FromString(value)
    except DecodeError as err:
        raise TableError(str(err)) from err
    return shards, entries


def _variable(name: str, entry: Any) -> Variable:
    shape = tuple(int(dim.size) for dim in entry.shape.dim)
    return Variable(name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"), type_name(entry.dtype), shape, int(entry.size))
