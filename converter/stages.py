"""A conversion as stages: each a child process, remembered by everything that it depends on.

A stage's key is the hash of its module, its job with every file replaced by the hash of what the file holds, the
versions of all tools, our own code, and the processor. So equal keys mean equal results, whatever files are called and
wherever they lie.

Files in a job are `Path` objects. A string that happens to name a file is told by both its text and the file's hash;
one that names a folder makes the stage unrepeatable, because nobody knows whether the folder is meant.

What each stage took and made is remembered in `Stages.records`, from which the lock is written (see `lock`).
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeferry.converter.cache import DEFAULT_MAX_BYTES, Cache
from edgeferry.converter.child import DEFAULT_DEADLINE_S, Watch, run_child
from edgeferry.converter.fingerprints import Fingerprint, Fingerprints
from edgeferry.converter.toolchain import own_sources, processor, versions
from edgeferry.wire.codec import canonical

__all__ = ["Record", "Stages", "files_in", "stage_key"]

log = logging.getLogger(__name__)

_MAX_PATH_CHARACTERS = 4096  # PATH_MAX of Linux; a longer text names no file


@dataclass(frozen=True, slots=True)
class Record:
    """What one stage took and made.

    Attributes:
        module: The child's.
        what: What was done, for people.
        job: As it was given, files as `Path`.
        folder: Where it worked.
        outputs: What it made, by name below ``folder``.
    """

    module: str
    what: str
    job: Mapping[str, object]
    folder: Path
    outputs: Mapping[str, Fingerprint]


class UnrepeatableError(Exception):
    """A job depends on something that has no hash."""


class Stages:
    """Runs stages, or finds what they made before.

    Attributes:
        fingerprints: Of everything that was hashed so far.
        records: One for each stage, in the order in which they ran.
    """

    def __init__(self, cache: Cache | None = None, watch: Watch | None = None) -> None:
        self.fingerprints = Fingerprints()
        self.records: list[Record] = []
        self._cache = cache
        self._watch = watch
        self._tools = {**versions(), "own code": own_sources(), "processor": processor()} if cache else {}
        self._has_kept = False

    def run(
        self,
        module: str,
        job: Mapping[str, object],
        *,
        folder: Path,
        what: str,
        outputs: Sequence[str],
        deadline_s: float = DEFAULT_DEADLINE_S,
        is_repeatable: bool = True,
    ) -> dict[str, Any]:
        """Return the result of ``module``'s work on ``job``, done now or before.

        Args:
            module: What ``python -m`` runs; see `run_child`.
            job: What to do; files are `Path` objects.
            folder: Where the outputs are afterwards.
            what: What is being done, for messages.
            outputs: Files and folders in ``folder`` that are wanted, or patterns of them; read-only afterwards.
            deadline_s: After that the child is killed.
            is_repeatable: Whether the same job gives the same result; if not, it is always done now.

        Raises:
            ConverterError: See `run_child`; failures are not remembered.
        """
        key = self._key(module, job) if is_repeatable else None
        result = self._take(key, folder)
        if result is None:
            result = run_child(module, job, folder=folder, what=what, deadline_s=deadline_s, watch=self._watch)
            if key is not None and key == self._key(module, job):  # nobody changed a file meanwhile
                self._keep(key, what, result, folder, _names(folder, outputs))
        made = {name: self.fingerprints.of(folder / name) for name in _names(folder, outputs)}
        self.records.append(Record(module, what, job, folder, made))
        return result

    def prune(self) -> None:
        """Keep the cache within its bounds; call it when a conversion has ended."""
        if self._cache is not None and self._has_kept:
            self._has_kept = False
            try:
                self._cache.prune(DEFAULT_MAX_BYTES)
            except OSError as err:
                log.warning("the cache in %s cannot be pruned: %s", self._cache.folder, err)

    def _key(self, module: str, job: Mapping[str, object]) -> str | None:
        if self._cache is None:
            return None
        try:
            return stage_key(module, job, self._tools, self.fingerprints)
        except (OSError, UnrepeatableError) as err:  # the child will say what is wrong with a file, if anything is
            log.info("%s is not looked up in the cache: %s", module, err)
            return None

    def _take(self, key: str | None, folder: Path) -> dict[str, Any] | None:
        if self._cache is None or key is None:
            return None
        result = self._cache.take(key, folder)
        log.info("%s is %sin the cache", key[:12], "" if result is not None else "not ")
        return result

    def _keep(self, key: str, what: str, result: Mapping[str, Any], folder: Path, outputs: Sequence[str]) -> None:
        if self._cache is None:
            return
        try:
            self._cache.keep(key, what, result, folder, outputs)
            self._has_kept = True
        except OSError as err:  # the conversion is worth more than its cache
            log.warning("the cache in %s cannot be written, going on without: %s", self._cache.folder, err)
            self._cache = None


def stage_key(module: str, job: Mapping[str, object], tools: Mapping[str, str], fingerprints: Fingerprints) -> str:
    """Return the name of everything that ``module``'s work on ``job`` depends on.

    Raises:
        UnrepeatableError: The job names something that has no hash.
        OSError: A file of the job cannot be read.
    """
    told = {"module": module, "job": _told(job, fingerprints), "tools": dict(tools)}
    return hashlib.sha256(canonical(told)).hexdigest()


def _names(folder: Path, outputs: Sequence[str]) -> list[str]:
    return sorted({path.name for output in outputs for path in folder.glob(output)})


def _told(value: object, fingerprints: Fingerprints) -> object:
    match value:
        case Path():
            return {"file": fingerprints.of(value).sha256}
        case str():
            return _text(value, fingerprints)
        case Mapping():
            return {f"key {name}": _told(item, fingerprints) for name, item in value.items()}
        case list() | tuple():
            return [_told(item, fingerprints) for item in value]
        case _:
            return value


def _text(text: str, fingerprints: Fingerprints) -> object:
    if not text or len(text) > _MAX_PATH_CHARACTERS or "\0" in text:
        return text
    if os.path.isdir(text):  # noqa: PTH112 - Path.is_dir() raises for names that are too long
        raise UnrepeatableError(f"{text!r} names a folder")
    if os.path.isfile(text):  # noqa: PTH113 - see above
        return {"text": text, "file": fingerprints.of(Path(text)).sha256}
    return text


def files_in(value: object) -> Iterator[Path]:
    """Yield every file that a job names."""
    match value:
        case Path():
            yield value
        case Mapping():
            for item in value.values():
                yield from files_in(item)
        case list() | tuple():
            for item in value:
                yield from files_in(item)
