"""Makes the model of an artifact again, from its lock, and compares it byte for byte.

The user's cache takes no part: every stage runs. Where the bytes differ, the first stage whose result differs is named,
and which tools have changed since.
"""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.child import DEFAULT_DEADLINE_S
from edgeferry.converter.embedding import embed
from edgeferry.converter.errors import ArtifactError, ConverterError, RequestError
from edgeferry.converter.fingerprints import Fingerprint, Fingerprints
from edgeferry.converter.lock import LOCK, MAX_LOCK_BYTES, Lock, LockedInput, decode_lock, restored
from edgeferry.converter.stages import Stages
from edgeferry.converter.toolchain import versions

__all__ = ["ChangedTool", "StepCheck", "Verification", "artifacts_in", "verify"]

_MODEL = "model.tflite"
_OURS = re.compile(r"edgeferry\.converter(\.[a-z_]+)+")  # a lock names what is run: code of ours alone
_OPTIONS = ("model", "calibration", "evaluation", "preprocessing", "labels")


@dataclass(frozen=True, slots=True)
class StepCheck:
    """A stage that was done again.

    Attributes:
        what: "making int8".
        is_equal: Whether all that it made is as it was.
    """

    what: str
    is_equal: bool


@dataclass(frozen=True, slots=True)
class ChangedTool:
    """A tool that is another than it was; the versions are empty where it is missing."""

    name: str
    then: str
    now: str

    def __str__(self) -> str:
        return f"{self.name} {self.then or 'none'} then, {self.now or 'none'} now"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of making a model again.

    Attributes:
        folder: Of the artifact.
        is_equal: Whether it is the same, byte for byte.
        wanted_sha256: Of the artifact's model.
        found_sha256: Of the one that was made now.
        steps: What was done, in order.
        changed_tools: Those whose version is another now.
    """

    folder: Path
    is_equal: bool
    wanted_sha256: str
    found_sha256: str
    steps: tuple[StepCheck, ...]
    changed_tools: tuple[ChangedTool, ...]

    @property
    def reason(self) -> str:
        """Return why the bytes differ, as far as that is known; empty when they do not."""
        if self.is_equal:
            return ""
        first = next((step.what for step in self.steps if not step.is_equal), "writing the metadata")
        tools = ", ".join(
            f"{tool.name} {tool.then or 'none'} then, {tool.now or 'none'} now" for tool in self.changed_tools
        )
        return f"{first} gives other bytes" + (f" ({tools})" if tools else ", with the same tools")


def artifacts_in(folder: Path) -> list[Path]:
    """Return the artifacts that ``folder`` is or holds: DIR/NAME/N/PROFILE, or all of DIR/NAME/N.

    Raises:
        RequestError: There is none.
    """
    try:
        if (folder / LOCK).is_file():
            return [folder]
        found = sorted(path.parent for path in folder.glob(f"*/{LOCK}"))
    except OSError as err:
        raise RequestError(f"{folder}: {err.strerror}") from err
    if not found:
        raise RequestError(f"{folder}: has no {LOCK}; wanted an artifact, DIR/NAME/N/PROFILE, or DIR/NAME/N")
    return found


def verify(
    folder: Path,
    given: Mapping[str, Path],
    *,
    stages: Stages,
    say: Callable[[str], None],
    deadline_s: float = DEFAULT_DEADLINE_S,
) -> Verification:
    """Return whether the artifact in ``folder`` can be made again from its inputs.

    Args:
        folder: DIR/NAME/N/PROFILE.
        given: Where inputs are now, by role; the others are looked for where they were.
        stages: Does the work; its cache holds nothing but what was made for this purpose now.
        say: Told what is being done.
        deadline_s: How long each stage may take.

    Raises:
        RequestError: An input is not there, or is another than it was.
        ConverterError: The artifact is damaged, or a stage fails.
    """
    lock = _read(folder)
    fingerprints = Fingerprints()
    _check_model(folder / _MODEL, lock, fingerprints)
    _check_functions(folder, lock, given)
    inputs = {one.role: _found(one, given, fingerprints) for one in lock.inputs if _is_used(lock, one.role)}
    try:
        with tempfile.TemporaryDirectory(prefix="edgeferry-verify-") as work:
            checks, made = _replay(lock, inputs, Path(work), say=say, stages=stages, deadline_s=deadline_s)
            found = embed(made.read_bytes(), lock.metadata.encode()) if lock.metadata else made.read_bytes()
            again = Path(work) / _MODEL
            again.write_bytes(found)
            found_sha256 = fingerprints.of(again).sha256
            is_equal = found == (folder / _MODEL).read_bytes()
    except OSError as err:
        where = err.filename or tempfile.gettempdir()
        raise ConverterError(f"{where}: {err.strerror or err}; verifying needs room there") from err
    return Verification(folder, is_equal, lock.model.sha256, found_sha256, checks, _changed(lock.tools))


def _read(folder: Path) -> Lock:
    path = folder / LOCK
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LOCK_BYTES + 1)
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}") from err
    if len(data) > MAX_LOCK_BYTES:
        raise ArtifactError(f"{path}: has more than {MAX_LOCK_BYTES} bytes; convert the model again")
    lock = decode_lock(data, where=str(path))
    for step in lock.steps:
        if not _OURS.fullmatch(step.module):
            raise ArtifactError(f"{path}: names the module {step.module[:100]!r}, which is none of the converter's")
    if not isinstance(restored(lock.made, {}, [folder] * len(lock.steps)), Path):
        raise ArtifactError(f"{path}: does not say which of its steps made the model; convert the model again")
    return lock


def _check_model(path: Path, lock: Lock, fingerprints: Fingerprints) -> None:
    try:
        found = fingerprints.of(path)
    except OSError as err:
        raise ArtifactError(f"{path}: {err.strerror}") from err
    if found != lock.model:
        raise ArtifactError(
            f"{path}: is another model than {LOCK} tells of: it has SHA-256 {found.sha256[:12]}..., "
            f"wanted {lock.model.sha256[:12]}...; it was changed after it was made"
        )


def _check_functions(folder: Path, lock: Lock, given: Mapping[str, Path]) -> None:
    """Do nothing when all code that the lock names besides ours is named on the command line, too.

    Raises:
        RequestError: It is not: whoever wrote the lock shall not say what runs here.
    """
    named = {str(path) for path in given.values()}
    for step in lock.steps:
        function = step.job.get("function")
        if function is not None and function not in named:
            raise RequestError(
                f"{folder}: its samples came from {str(function)[:200]!r}, which is code; "
                "give the same with --calibration or --evaluation to run it again"
            )


def _is_used(lock: Lock, role: str) -> bool:
    return any(_names(step.job, role) for step in lock.steps)


def _names(value: object, role: str) -> bool:
    match value:
        case {"$input": str(found)}:
            return found == role
        case dict():
            return any(_names(item, role) for item in value.values())
        case list():
            return any(_names(item, role) for item in value)
        case _:
            return False


def _found(wanted: LockedInput, given: Mapping[str, Path], fingerprints: Fingerprints) -> Path:
    path = given.get(wanted.role, Path(wanted.path))
    option = f"--{wanted.role}" if wanted.role in _OPTIONS else ""
    remedy = f"; give it with {option}" if option else ""
    try:
        found = fingerprints.of(path)
    except OSError as err:
        raise RequestError(f"{wanted.role} {path}: {err.strerror}{remedy}") from err
    if found.sha256 != wanted.sha256:
        raise RequestError(
            f"{wanted.role} {path}: is not what the artifact was made from: SHA-256 {found.sha256[:12]}..., "
            f"{found.size_bytes} bytes; wanted {wanted.sha256[:12]}..., {wanted.size_bytes} bytes{remedy}"
        )
    return path


def _replay(
    lock: Lock,
    inputs: Mapping[str, Path],
    work: Path,
    *,
    say: Callable[[str], None],
    stages: Stages,
    deadline_s: float,
) -> tuple[tuple[StepCheck, ...], Path]:
    """Return what each step came to, and the model that the last one made."""
    folders: list[Path] = []
    checks = []
    for number, step in enumerate(lock.steps):
        say(step.what)
        folder = work / str(number)
        job = restored(step.job, inputs, folders)
        outputs = list(step.outputs)
        stages.run(step.module, job, folder=folder, what=step.what, outputs=outputs, deadline_s=deadline_s)
        folders.append(folder)
        made: Mapping[str, Fingerprint] = stages.records[-1].outputs
        checks.append(StepCheck(step.what, made == step.outputs))
    model: Path = restored(lock.made, inputs, folders)
    return tuple(checks), model


def _changed(then: Mapping[str, str]) -> tuple[ChangedTool, ...]:
    now = versions()
    names = sorted(then.keys() | now.keys())
    return tuple(
        ChangedTool(name, then.get(name, ""), now.get(name, "")) for name in names if then.get(name) != now.get(name)
    )
