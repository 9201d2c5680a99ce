"""``lock.json``: everything that an artifact's model was made from, so that it can be made again.

It holds the hash of every input, the versions of all tools, and the stages that led to the model, each with its job and
the hashes of what it made. A file in a job is ``{"$input": ROLE}``, or ``{"$step": N, "output": NAME}`` where an
earlier stage made it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.converter.errors import ArtifactError
from edgeferry.converter.fingerprints import Fingerprint, Fingerprints
from edgeferry.converter.stages import Record, files_in

__all__ = ["FORMAT", "LOCK", "Lock", "LockedInput", "LockedStep", "decode_lock", "locked", "restored"]

FORMAT = 1
LOCK = "lock.json"
MAX_LOCK_BYTES = 8 * 1024 * 1024

_INPUT, _STEP, _OUTPUT = "$input", "$step", "output"


class LockedInput(msgspec.Struct, frozen=True):
    """A file or folder that went in.

    Attributes:
        role: ``model``, ``calibration``, ``evaluation``, ``labels``; ``file N`` for others.
        path: Where it was.
    """

    role: str
    path: str
    sha256: str
    size_bytes: int


class LockedStep(msgspec.Struct, frozen=True):
    """A stage: a module of ours, its job, and what it made."""

    module: str
    what: str
    job: dict[str, Any]
    outputs: dict[str, Fingerprint]


class Lock(msgspec.Struct, frozen=True):
    """How the model of one artifact was made.

    Attributes:
        inputs: What went in, in the order of first use.
        steps: What was done, in order.
        made: The model before it was told what it is: an output of a step, in a job's words.
        metadata: What was put into it, as it stands there; empty where nothing was.
        model: The model of the artifact.
        options: What was asked for.
        tools: Versions of everything that took part.
    """

    format: int
    name: str
    version: int
    profile: str
    scheme: str
    model: Fingerprint
    inputs: tuple[LockedInput, ...]
    steps: tuple[LockedStep, ...]
    made: dict[str, Any]
    metadata: str
    options: dict[str, Any]
    tools: dict[str, str]


def decode_lock(data: bytes, *, where: str) -> Lock:
    """Return the lock that ``data`` spells.

    Raises:
        ArtifactError: It is none; ``where`` names the file.
    """
    try:
        lock = msgspec.json.decode(data, type=Lock)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise ArtifactError(f"{where}: is not a lock: {err}; convert the model again") from err
    if lock.format != FORMAT:
        raise ArtifactError(f"{where}: has format {lock.format}, wanted {FORMAT}; use the edgeferry that wrote it")
    return lock


def locked(
    records: Sequence[Record], model: Path, named: Mapping[str, Path], fingerprints: Fingerprints
) -> tuple[tuple[LockedInput, ...], tuple[LockedStep, ...], dict[str, Any]]:
    """Return the inputs and the steps that led to ``model``, and which output of them it is.

    Args:
        records: What was done, in order.
        model: A file that one of them made.
        named: Files and folders that went in, by role.
        fingerprints: Of everything that was hashed so far.
    """
    makers = {record.folder / name: (number, name) for number, record in enumerate(records) for name in record.outputs}
    needed = _needed(records, makers, model)
    places = {path: {_STEP: needed.index(n), _OUTPUT: name} for path, (n, name) in makers.items() if n in needed}
    roles = {path: role for role, path in reversed(list(named.items()))}
    for number in needed:
        for path in files_in(records[number].job):
            if path not in places and path not in roles:
                roles[path] = f"file {len(roles) + 1}"
    words = {path: {_INPUT: role} for path, role in roles.items()} | places
    steps = [
        LockedStep(record.module, record.what, _spelled(record.job, words), dict(record.outputs))
        for record in (records[number] for number in needed)
    ]
    order = [*named, *roles.values()]
    inputs = [_input(role, path, fingerprints) for path, role in sorted(roles.items(), key=lambda i: order.index(i[1]))]
    return tuple(inputs), tuple(steps), places[model]


def restored(job: Any, inputs: Mapping[str, Path], folders: Sequence[Path]) -> Any:
    """Return ``job`` with files as paths again.

    Args:
        job: As a lock spells it.
        inputs: By role.
        folders: In which the steps before have worked, in order.

    Raises:
        ArtifactError: It names what is not there.
    """
    match job:
        case {"$input": str(role)} if role in inputs:
            return inputs[role]
        case {"$step": int(number), "output": str(name)} if 0 <= number < len(folders) and Path(name).name == name:
            return folders[number] / name
        case {"$input": _} | {"$step": _}:
            raise ArtifactError(f"{LOCK}: {job} names nothing that it lists; convert the model again")
        case dict():
            return {key: restored(value, inputs, folders) for key, value in job.items()}
        case list():
            return [restored(value, inputs, folders) for value in job]
        case _:
            return job


def _needed(records: Sequence[Record], makers: Mapping[Path, tuple[int, str]], model: Path) -> list[int]:
    """Return the numbers of the records that ``model`` depends on, in order."""
    needed: set[int] = set()
    waiting = [model]
    while waiting:
        number = makers.get(waiting.pop(), (-1, ""))[0]
        if number >= 0 and number not in needed:
            needed.add(number)
            waiting.extend(files_in(records[number].job))
    return sorted(needed)


def _spelled(value: Any, words: Mapping[Path, dict[str, Any]]) -> Any:
    match value:
        case Path():
            return words[value]
        case Mapping():
            return {key: _spelled(item, words) for key, item in value.items()}
        case list() | tuple():
            return [_spelled(item, words) for item in value]
        case _:
            return value


def _input(role: str, path: Path, fingerprints: Fingerprints) -> LockedInput:
    found = fingerprints.of(path)
    return LockedInput(role, str(path.absolute()), found.sha256, found.size_bytes)
