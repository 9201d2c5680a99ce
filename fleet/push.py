"""What a push would do to each device, and how far each has got with it. Pure: the view and the clock come in.

Decides who can take a version, who counts as offline, and when a device is done. A push follows the deployment: its id
is the SHA-256 of the device's wish, which both sides compute, so an old failure is never taken for a new one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgeferry.device_profiles import DeviceProfile, Swap
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import DeviceView, Liveness, told
from edgeferry.wire.desired import ROLE_MODEL, ROLE_SELFTEST, STABLE, ArtifactManifest, DifferenceRef, ManifestBlob
from edgeferry.wire.messages import LabelState, ModelState, Outcome

__all__ = ["Plan", "Progress", "Standing", "Target", "plan_for", "progress_of", "refuse_what_cannot_be", "versions_on"]

LABELS = "labels"  # among the capabilities of an agent that serves several versions of a model
DISK_FLOOR_BYTES = 64 << 20  # what an agent keeps free, at least
OFFLINE_GRACE_S = 15.0  # a broker says a will 10 s after it lost the device, which may be back by then


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do to one device.

    Attributes:
        scheme: Of the artifact for the device's profile; empty where there is none.
        moved_bytes: What would travel; 0 when the device has the version already.
        whole_bytes: What would travel without differences to what the device has.
        obstacle: Why the device cannot take it; empty when it can.
        doubt: What may stop it once it is there, such as a disk that was nearly full; empty for nothing.
    """

    device: str
    profile: str
    model: str
    version: int
    scheme: str
    moved_bytes: int
    whole_bytes: int
    liveness: Liveness
    obstacle: str = ""
    doubt: str = ""

    @property
    def saved_bytes(self) -> int:
        """Return what need not travel because of differences."""
        return self.whole_bytes - self.moved_bytes

    @property
    def fits(self) -> bool:
        """Return whether the device can take it, as far as the workstation knows."""
        return not self.obstacle and not self.doubt


def plan_for(
    device: Device,
    manifests: Mapping[str, ArtifactManifest],
    profile: DeviceProfile | None,
    view: DeviceView,
    now: float,
    *,
    held: Collection[str] = (),
    differences: Collection[DifferenceRef] = (),
    label: str = STABLE,
) -> Plan:
    """Return what pushing the version of ``manifests`` would do to ``device``.

    Args:
        device: From the inventory.
        manifests: The version's artifacts by profile, at least one.
        profile: The device's; None where this workstation does not know it, and so no budget.
        view: What the device said last.
        now: Of the clock of ``view``.
        held: SHA-256 of the blobs that are on the device, as far as is known.
        differences: What is offered for the device's artifact.
        label: What shall name the version.
    """
    some = next(iter(manifests.values()))
    manifest = manifests.get(device.profile)
    missing = _missing(manifest, view, held) if manifest else []
    whole_bytes = sum(blob.size_bytes for blob in missing)
    moved_bytes = sum(_least(blob, held, differences) for blob in missing)
    return Plan(
        device=device.id,
        profile=device.profile,
        model=some.name,
        version=some.version,
        scheme=manifest.scheme if manifest else "",
        moved_bytes=moved_bytes,
        whole_bytes=whole_bytes,
        liveness=view.liveness(now),
        obstacle=_obstacle(manifest, device, profile, sorted(manifests)) or _label_obstacle(label, profile, view),
        doubt=_doubt(whole_bytes if moved_bytes == whole_bytes else whole_bytes + moved_bytes, view),
    )


def refuse_what_cannot_be(plans: Sequence[Plan]) -> None:
    """Do nothing when every device can take the version.

    Raises:
        UsageError: Some cannot, or nobody is addressed; the sentence names the first and counts the others.
    """
    if not plans:
        raise UsageError("no device is addressed; add one with `edgeferry token ID -p PROFILE`, or address others")
    stopped = [plan for plan in plans if plan.obstacle]
    if stopped:
        others = f" (and {len(stopped) - 1} more)" if len(stopped) > 1 else ""
        raise UsageError(f"{stopped[0].device}{others}: {stopped[0].obstacle}; nothing was published")


def versions_on(view: DeviceView, model: str) -> set[int]:
    """Return the versions of ``model`` that are on the disk of a device, by its own account."""
    state = view.state.models.get(model) if view.state else None
    return {*state.labels.values(), state.previous} - {0} if state else set()


def _missing(manifest: ArtifactManifest, view: DeviceView, held: Collection[str]) -> list[ManifestBlob]:
    """Return the blobs that a device lacks."""
    if manifest.version in versions_on(view, manifest.name):
        return []
    needed = [blob for blob in manifest.blobs if blob.role in (ROLE_MODEL, ROLE_SELFTEST)]
    return [blob for blob in needed if blob.sha256 not in held]


def _least(blob: ManifestBlob, held: Collection[str], differences: Collection[DifferenceRef]) -> int:
    """Return how much has to travel for a blob: the smallest difference to what is held, or all of it."""
    usable = [one.size_bytes for one in differences if one.made == blob.sha256 and one.base in held]
    return min([*usable, blob.size_bytes])


def _obstacle(
    manifest: ArtifactManifest | None, device: Device, profile: DeviceProfile | None, made_for: list[str]
) -> str:
    if manifest is None:
        name = device.profile
        return f"no artifact for profile {name}, only for {', '.join(made_for)}; convert with -p {name}"
    if profile is None:
        return ""
    model_bytes = manifest.blob(ROLE_MODEL).size_bytes
    for what, needed, allowed in (
        ("as a file", model_bytes, profile.budgets.model_bytes),
        ("of memory", manifest.memory_bytes, profile.budgets.memory_bytes),
    ):
        if needed > allowed:
            return (
                f"{manifest.name} {manifest.version} needs {_mb(needed)} {what}, profile {profile.name} allows "
                f"{_mb(allowed)}; convert it smaller"
            )
    return ""


def _label_obstacle(label: str, profile: DeviceProfile | None, view: DeviceView) -> str:
    if label == STABLE:
        return ""
    if profile and profile.serving.swap is Swap.STOP_FIRST:
        return f"profile {profile.name} holds one version at a time (swap: stop_first): no room for a {label}"
    if view.info and LABELS not in view.info.capabilities:
        return f"its agent knows no labels, so it would ignore the {label}; update edgeferry there"
    return ""


def _doubt(needed_bytes: int, view: DeviceView) -> str:
    free_bytes = view.telemetry.disk_free_bytes if view.telemetry else None
    if free_bytes is not None and needed_bytes and free_bytes - needed_bytes < DISK_FLOOR_BYTES:
        return f"has {_mb(free_bytes)} of disk left, needs {_mb(needed_bytes)} and a floor of {_mb(DISK_FLOOR_BYTES)}"
    return ""


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


class Standing(StrEnum):
    """How far a device has got with a push."""

    WORKING = "working"
    PENDING = "pending"
    ACTIVE = "active"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Target:
    """A device and what it was told.

    Attributes:
        version: What the label shall name; 0 for nothing, it is withdrawn.
        deployment: The id of the wish that it was told.
        generation: Of the metadata that tells it.
        root_version: Of the root that this metadata rests on: under an older one, generations are of other keys.
        percent: Share of the requests that the version shall answer instead of the stable one.
    """

    device: str
    model: str
    version: int
    deployment: str
    generation: int
    label: str = STABLE
    percent: int = 0
    root_version: int = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a device has got.

    Attributes:
        phase: Of its lifecycle; empty when it is not known.
        done_bytes: Of the running transfer.
        total_bytes: Of the running transfer; 0 when there is none.
        reason: Why it is not further; empty when all is well.
    """

    standing: Standing
    phase: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Return whether waiting longer changes nothing by itself."""
        return self.standing is not Standing.WORKING


def progress_of(target: Target, view: DeviceView, *, now: float, began_at: float) -> Progress:
    """Return how far the device of ``view`` has got with ``target``.

    Args:
        target: What it was told.
        view: What it said last.
        now: Of the clock of ``view``.
        began_at: When the push began, by the same clock.
    """
    model = view.state.models.get(target.model) if view.state else None
    seen = view.state.generation if view.state and view.state.root_version >= target.root_version else 0
    knows = seen >= target.generation
    is_away = _is_away(view, now, began_at)
    # One that is there still needs this push's metadata, so it counts only when it has read that.
    if model and _is_active(target, model) and (knows or (is_away and _is_settled(target, model))):
        return Progress(Standing.ACTIVE, model.phase)
    if model is None and knows and not target.version:
        return Progress(Standing.ACTIVE)
    state = model.of(target.label) if model else None
    if state and _has_failed(target, state):
        return Progress(Standing.FAILED, state.phase, reason=_why(state))
    if seen > target.generation and _wants(state) != target.version:
        return Progress(Standing.FAILED, reason=f"superseded: version {_wants(state)} has been published since")
    if is_away:
        return Progress(Standing.PENDING, reason="offline")
    return _working(state, view, knows=knows)


def _is_settled(target: Target, model: ModelState) -> bool:
    state = model.of(target.label)
    if state is None:
        return not target.version
    return state.wanted == target.version and state.deployment in ("", target.deployment)


def _is_active(target: Target, model: ModelState) -> bool:
    state = model.of(target.label)
    if state is None or not target.version:
        return model.labels.get(target.label, 0) == target.version
    is_served = model.labels.get(target.label) == target.version and not state.quarantined
    return is_served and state.percent == target.percent


def _has_failed(target: Target, state: LabelState) -> bool:
    last = state.last
    return (
        last is not None
        and last.deployment == target.deployment
        and last.outcome in (Outcome.FAILED, Outcome.ROLLED_BACK)
    )


def _wants(state: LabelState | None) -> int:
    return state.wanted if state else 0


def _why(state: LabelState) -> str:
    last = state.last
    if last is None or last.problem is None:
        return "no reason given"
    return f"{last.outcome.replace('_', ' ')}: {told(last.problem)}"


def _is_away(view: DeviceView, now: float, began_at: float) -> bool:
    liveness = view.liveness(now)
    if liveness is Liveness.OFFLINE:
        return view.availability_at <= began_at or now - view.availability_at >= OFFLINE_GRACE_S
    return liveness is Liveness.UNKNOWN


def _working(model: LabelState | None, view: DeviceView, *, knows: bool) -> Progress:
    state = view.state
    problem = state and (state.metadata or state.waiting)
    reason = told(problem) if problem else ""
    if model is None or not knows:
        return Progress(Standing.WORKING, "waking", reason=reason)
    transfer = model.transfer
    if transfer is None:
        return Progress(Standing.WORKING, model.phase, reason=reason)
    return Progress(Standing.WORKING, model.phase, transfer.done_bytes, transfer.total_bytes, reason)
