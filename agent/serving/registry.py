"""Which versions are loaded, which of them a label names, and how one takes over from another.

    load -> warm up -> move the label -> drain -> unload

A request holds the version that it was given until it is answered, so none fails while a label moves: it is answered
by the old version or by the new one.
"""

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeferry.agent.blackbox import Blackbox, Recorder
from edgeferry.agent.serving.artifact import open_model, read_manifest
from edgeferry.agent.serving.errors import RequestError, UnknownVersionError
from edgeferry.agent.serving.pace import Pace
from edgeferry.agent.serving.queue import ModelQueue
from edgeferry.agent.serving.routing import is_canary
from edgeferry.agent.serving.sessions import Sessions
from edgeferry.inference.model import Model, ModelError
from edgeferry.inference.quantization import DTYPES
from edgeferry.wire.desired import CANARY, STABLE, ArtifactManifest, TensorSpec
from edgeferry.wire.messages import Code, Reason, Swap

__all__ = ["LoadOrder", "Loaded", "Registry", "ServedVersion"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """A version that shall serve.

    Attributes:
        path: The model's file; immutable as long as it is loaded.
        manifest: The manifest's file; None for a bare model, of which only is known what it says of itself.
        label: The label that shall name it, for which versions without a label are unloaded. Empty for none: it stays
            loaded beside the others.
        percent: Share of the requests without a version that it answers instead of the stable one; for a canary.
        stops_first: Whether what the label names now is unloaded first, when a version has to be loaded: memory cannot
            hold both. Nobody answers in between.
    """

    model: str
    version: int
    path: Path
    manifest: Path | None
    label: str
    percent: int = 0
    stops_first: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a version took over from the one that its label named before.

    Attributes:
        swap: None where the label named none.
        gap_ms: For how long neither answered.
    """

    swap: Swap | None = None
    gap_ms: int = 0


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
        self.preprocessing = _preprocessing(manifest, model)
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
        self._percents: dict[str, int] = {}  # of the canary, by model
        self._exchanged: set[str] = set()  # models whose version before is gone and whose next one is not yet there

    def load(self, order: LoadOrder) -> Loaded:
        """Have ``order.label`` name the version, loaded and warm; unload what no label names any more.

        Raises:
            RequestError: It cannot be loaded, or is not what its manifest says; nothing has changed, but that with
                ``order.stops_first`` the version before is gone.
        """
        with self._changing:
            before = self.labels(order.model).get(order.label)
            present = self._versions.get(order.model, {}).get(order.version)
            is_loaded = present is not None and present.path == order.path
            has_gap = order.stops_first and before is not None and not is_loaded
            began_s = time.monotonic()
            try:
                if has_gap:
                    self._make_room(order)
                fresh = None if is_loaded else self._open(order)
                replaced = self._take_in(order, fresh)
            finally:
                self._exchanged.discard(order.model)
        logger.info("%s %d is %s", order.model, order.version, order.label or "loaded")
        self._retire_later(replaced)
        if has_gap:
            return Loaded(Swap.STOP_FIRST, round((time.monotonic() - began_s) * 1e3))
        return Loaded() if before is None else Loaded(Swap.BOTH)

    def unload(self, model: str, label: str = "") -> None:
        """Unload ``model`` after the requests that hold it, if it is loaded.

        Args:
            model: Its name.
            label: Have this one name nothing, and unload what no label names any more; empty for all versions.
        """
        with self._changing:
            retired = self._without_label(model, label) if label else self._without(model)
            self._retire(retired, time.monotonic() + self._request_timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Unload everything; return False when a run did not end in time."""
        deadline_s = time.monotonic() + timeout_s
        with self._changing:
            with self._lock:
                retired = [served for versions in self._versions.values() for served in versions.values()]
                self._versions.clear()
                self._labels.clear()
                self._percents.clear()
            return self._retire(retired, deadline_s)

    @contextmanager
    def hold(
        self, model: str, version: str = "", *, label: str = "", routing_key: Callable[[], str] = str
    ) -> Iterator[ServedVersion]:
        """Give a version that stays loaded until the block is left.

        Args:
            model: Its name.
            version: A number or a label; empty for ``stable`` or, for a part of the requests, ``canary``. Where a model
                has no labels, for the latest.
            label: A label, even where it looks like a number; empty when ``version`` decides.
            routing_key: Tells whose request it is, so that the same version answers again; empty for anybody's. Called
                only where a part of the requests goes to a canary.

        Raises:
            UnknownVersionError: It is not loaded.
            RequestError: It will be in a moment.
        """
        key = routing_key() if self._percents.get(model) and not (label or version) else ""
        with self._lock:
            chosen = label or version or self._routed(model, key)
            served = self._resolve(model, chosen, is_label=bool(label))
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

    def percent(self, model: str) -> int:
        """Return the share of the requests without a version that the canary of ``model`` answers."""
        return self._percents.get(model, 0)

    def _routed(self, model: str, key: str) -> str:
        """Return the label that a request without a version goes to; empty for the one that it goes to by itself."""
        percent, version = self._percents.get(model, 0), self._labels.get(model, {}).get(CANARY)
        is_chosen = percent and version is not None and is_canary(percent, model, version, key)
        return CANARY if is_chosen else ""

    def _resolve(self, model: str, wanted: str, *, is_label: bool) -> ServedVersion:
        versions = self._versions.get(model)
        if not versions:
            raise self._absent(model) or _unknown_model(model)
        labels = self._labels[model]
        if not wanted:
            number = labels.get(STABLE) if labels else max(versions)
        else:
            is_number = wanted.isascii() and wanted.isdigit() and len(wanted) < 20
            number = int(wanted) if is_number and not is_label else labels.get(wanted)
        if number not in versions:
            loaded = ", ".join([*map(str, sorted(versions)), *sorted(labels)])
            detail = f"model {model!r} has no version or label {(wanted or STABLE)[:64]!r}; loaded are {loaded}"
            raise self._absent(model) or UnknownVersionError(detail)
        return versions[number]

    def _absent(self, model: str) -> RequestError | None:
        if model not in self._exchanged:
            return None
        detail = f"model {model!r} is being changed, and there is no room for two versions; come again in a moment"
        return RequestError(Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE, detail)

    def _make_room(self, order: LoadOrder) -> None:
        """Unload what the label names; until the next version is there, requests are told to come again."""
        self._exchanged.add(order.model)
        self._retire(self._without_label(order.model, order.label), time.monotonic() + self._request_timeout_s)

    def _take_in(self, order: LoadOrder, fresh: ServedVersion | None) -> list[ServedVersion]:
        """Have the label name the version, and return the versions that nothing names any more."""
        with self._lock:
            versions = self._versions.setdefault(order.model, {})
            replaced = [versions[order.version]] if fresh and order.version in versions else []
            if fresh:
                versions[order.version] = fresh
            labels = self._labels.setdefault(order.model, {})
            if order.label:
                labels[order.label] = order.version
                replaced += [versions.pop(each) for each in sorted(versions.keys() - set(labels.values()))]
            if order.label == CANARY:
                self._percents[order.model] = order.percent
        return replaced

    def _without(self, model: str) -> list[ServedVersion]:
        with self._lock:
            self._labels.pop(model, None)
            self._percents.pop(model, None)
            return list(self._versions.pop(model, {}).values())

    def _without_label(self, model: str, label: str) -> list[ServedVersion]:
        with self._lock:
            labels, versions = self._labels.get(model, {}), self._versions.get(model, {})
            number = labels.pop(label, None)
            if label == CANARY:
                self._percents.pop(model, None)
            retired = [versions.pop(number)] if number in versions and number not in labels.values() else []
            if not versions:
                self._versions.pop(model, None)
                self._labels.pop(model, None)
        return retired

    def _retire_later(self, versions: list[ServedVersion]) -> None:
        if versions:
            deadline_s = time.monotonic() + self._request_timeout_s
            threading.Thread(target=self._retire, args=(versions, deadline_s), name="drain", daemon=True).start()

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


def _preprocessing(manifest: ArtifactManifest | None, model: Model) -> dict[str, Any]:
    if manifest is not None:
        return manifest.preprocessing
    metadata = model.description.metadata
    return metadata.preprocessing if metadata else {}


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
