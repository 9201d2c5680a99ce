"""Which versions are loaded, which of them a label names, and how one takes over from another.

    load -> warm up -> move the label -> drain -> unload

A request holds the version that it was given until it is answered, so none fails while a label moves: it is answered
by the old version or by the new one.
"""

import ctypes
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgeferry.agent.blackbox import Blackbox, Recorder
from edgeferry.agent.serving.artifact import open_model, read_manifest
from edgeferry.agent.serving.errors import RequestError, UnknownVersionError
from edgeferry.agent.serving.pace import Pace
from edgeferry.agent.serving.queue import ModelQueue
from edgeferry.agent.serving.sessions import Sessions
from edgeferry.inference.model import Model, ModelError
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.desired import STABLE, ArtifactManifest, TensorSpec
from edgeferry.wire.messages import Code, Reason

__all__ = ["LoadOrder", "Registry", "ServedVersion"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """A version that shall serve.

    Attributes:
        path: The model's file; immutable as long as it is loaded.
        manifest: The manifest's file; None for a bare model, of which only is known what it says of itself.
        label: The label that shall name it, for which versions without a label are unloaded. Empty for none: it stays
            loaded beside the others.
    """

    model: str
    version: int
    path: Path
    manifest: Path | None
    label: str


class ServedVersion:
    """A loaded version and the requests that hold it."""

    def __init__(
        self,
        order: LoadOrder,
        manifest: ArtifactManifest | None,
        model: Model,
        queue: ModelQueue,
        notes: Recorder,
    ) -> None:
        self.name = order.model
        self.version = order.version
        self.path = order.path
        self.class_labels = _class_labels(manifest, model)
        self.preprocessing = manifest.preprocessing if manifest else {}
        self.inputs: tuple[TensorSpec, ...] = model.inputs
        self.outputs: tuple[TensorSpec, ...] = model.outputs
        self.queue = queue
        self.notes = notes
        self.holders = 0  # guarded by the registry's lock


class Registry:
    """All loaded versions; any thread may ask, one at a time changes.

    Attributes:
        pace: How much of the time they may run.
    """

    def __init__(self, *, threads: int, queue: int, request_timeout_s: float, blackbox: Blackbox) -> None:
        self._threads = threads
        self._queue = queue
        self._request_timeout_s = request_timeout_s
        self._blackbox = blackbox
        self.pace = Pace()
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)
        self._versions: dict[str, dict[int, ServedVersion]] = {}
        self._labels: dict[str, dict[str, int]] = {}

    def load(self, order: LoadOrder) -> None:
        """Have ``order.label`` name the version, loaded and warm; unload what no label names any more.

        Raises:
            RequestError: It cannot be loaded, or is not what its manifest says; nothing has changed.
        """
        with self._changing:
            present = self._versions.get(order.model, {}).get(order.version)
            fresh = None if present and present.path == order.path else self._open(order)
            with self._lock:
                versions = self._versions.setdefault(order.model, {})
                replaced = [versions[order.version]] if fresh and order.version in versions else []
                if fresh:
                    versions[order.version] = fresh
                labels = self._labels.setdefault(order.model, {})
                if order.label:
                    labels[order.label] = order.version
                    replaced += [versions.pop(each) for each in sorted(versions.keys() - set(labels.values()))]
        logger.info("%s %d is %s", order.model, order.version, order.label or "loaded")
        if replaced:
            deadline_s = time.monotonic() + self._request_timeout_s
            threading.Thread(target=self._retire, args=(replaced, deadline_s), name="drain", daemon=True).start()

    def unload(self, model: str) -> None:
        """Unload all versions of ``model``, if there are any, after the requests that hold them."""
        with self._changing:
            with self._lock:
                versions = self._versions.pop(model, {})
                self._labels.pop(model, None)
            self._retire(list(versions.values()), time.monotonic() + self._request_timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Unload everything; return False when a run did not end in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._changing:
            with self._lock:
                retired = [served for versions in self._versions.values() for served in versions.values()]
                self._versions.clear()
                self._labels.clear()
            return self._retire(retired, deadline_s)

    @contextmanager
    def hold(self, model: str, version: str = "", *, label: str = "") -> Iterator[ServedVersion]:
        """Give a version that stays loaded until the block is left.

        Args:
            model: Its name.
            version: A number or a label; empty for ``stable``, or the latest where no label is ``stable``.
            label: A label, even where it looks like a number; empty when ``version`` decides.

        Raises:
            UnknownVersionError: It is not loaded.
        """
        with self._lock:
            served = self._resolve(model, version, label)
            served.holders += 1
        try:
            yield served
        finally:
            with self._lock:
                served.holders -= 1
                if not served.holders:
                    self._released.notify_all()

    def models(self) -> dict[str, tuple[ServedVersion, ...]]:
        """Return all loaded versions by model, ascending."""
        with self._lock:
            return {name: tuple(versions[v] for v in sorted(versions)) for name, versions in self._versions.items()}

    def labels(self, model: str) -> dict[str, int]:
        """Return the labels of ``model`` and the versions that they name; none for an unknown model."""
        with self._lock:
            return dict(self._labels.get(model, {}))

    def _resolve(self, model: str, version: str, label: str) -> ServedVersion:
        versions = self._versions.get(model)
        if not versions:
            raise _unknown_model(model)
        labels = self._labels[model]
        if not (version or label):
            return versions[labels.get(STABLE, max(versions))]
        is_number = version.isascii() and version.isdigit() and len(version) < 20
        number = int(version) if is_number and not label else labels.get(label or version)
        if number not in versions:
            loaded = ", ".join([*map(str, sorted(versions)), *sorted(labels)])
            wanted = (label or version)[:64]
            raise UnknownVersionError(f"model {model!r} has no version or label {wanted!r}; loaded are {loaded}")
        return versions[number]

    def _open(self, order: LoadOrder) -> ServedVersion:
        manifest = _manifest(order)
        notes = self._blackbox.recorder(order.model, order.version)
        notes.begin(time.monotonic_ns())
        try:
            open_another = partial(open_model, order.path, manifest, threads=self._threads)
            model = open_another()
            _warm_up(model, f"{order.model} {order.version}")
        except RequestError:
            self._blackbox.release(notes)
            raise
        notes.end()
        queue = ModelQueue(
            Sessions(model, open_another),
            name=f"{order.model} {order.version}",
            recorder=notes,
            capacity=self._queue,
            pace=self.pace,
        )
        queue.start()
        return ServedVersion(order, manifest, model, queue, notes)

    def _retire(self, versions: list[ServedVersion], deadline_s: float) -> bool:
        ended = True
        while versions:
            ended = self._retire_one(versions.pop(), deadline_s) and ended
        _return_free_memory()
        return ended

    def _retire_one(self, served: ServedVersion, deadline_s: float) -> bool:
        with self._released:
            self._released.wait_for(lambda: not served.holders, deadline_s - time.monotonic())
        if not served.queue.close(max(0.1, deadline_s - time.monotonic())):
            logger.error("%s %d is still running; its memory is lost until a restart", served.name, served.version)
            return False
        self._blackbox.release(served.notes)
        logger.info("%s %d is unloaded", served.name, served.version)
        return True


def _manifest(order: LoadOrder) -> ArtifactManifest | None:
    if order.manifest is None:
        return None
    manifest = read_manifest(order.manifest)
    if (manifest.name, manifest.version) != (order.model, order.version):
        detail = f"the manifest is of {manifest.name} {manifest.version}, wanted {order.model} {order.version}"
        raise RequestError(Code.FAILED_PRECONDITION, Reason.MANIFEST_MISMATCH, detail)
    return manifest


def _class_labels(manifest: ArtifactManifest | None, model: Model) -> tuple[str, ...]:
    if manifest is not None:
        return manifest.labels
    metadata = model.description.metadata
    return metadata.labels if metadata else ()


def _warm_up(model: Model, name: str) -> None:
    zeros = {s.name: np.zeros([abs(size) for size in s.shape], DTYPES[s.datatype]) for s in model.inputs}
    try:
        model.run(zeros)
    except ModelError as err:
        # Its self-test has proved it already; zeros need not be an input that it takes.
        logger.warning("%s did not warm up: %s", name, err)
    model.reset()


def _return_free_memory() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc keeps freed arenas otherwise
        libc.malloc_trim(0)


def _unknown_model(model: str) -> UnknownVersionError:
    return UnknownVersionError(f"model {model[:64]!r} is not loaded")
