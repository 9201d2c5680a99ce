"""From the repository and the view to plans and targets: what `push` and `rollback` have in common.

Decides which differences are worth making: to the version that devices shall run from those that most of them have.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgeferry.device_profiles import DeviceProfile, ProfileError, load_profile
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.push import Plan, Target, plan_for, versions_on
from edgeferry.fleet.repository import Repository
from edgeferry.wire.desired import ROLE_MODEL, ROLE_SELFTEST, STABLE

__all__ = ["offer_differences", "plans_for", "targets_of"]

MAX_BASES = 4  # versions to which one version is compared, for each profile; who has another one gets the whole
_LARGE_BYTES = 16 << 20  # comparing takes seconds


def offer_differences(
    repository: Repository,
    devices: Sequence[Device],
    *,
    versions: Mapping[str, int],
    model: str,
    view: FleetView,
    tell: Callable[[str], None],
) -> None:
    """Offer differences from what devices have to what they shall have, where those are smaller than the whole.

    Args:
        repository: Holds the artifacts; what is offered is published with what else changes.
        devices: Who is addressed.
        versions: What each shall have, by device.
        model: Its name.
        view: What the devices said.
        tell: Is told what is done where it takes a while.
    """
    known = set(repository.versions(model))
    bases: dict[tuple[str, int], Counter[int]] = {}
    for device in devices:
        wanted, had = versions[device.id], versions_on(view.get(device.id), model)
        if wanted not in had:
            bases.setdefault((device.profile, wanted), Counter()).update(had & known)
    for (profile, wanted), counted in bases.items():
        for base, _ in counted.most_common(MAX_BASES):
            _offer(repository, _Step(model, profile, base, wanted), tell)


@dataclass(frozen=True, slots=True)
class _Step:
    """From one version of a model to another, for one profile."""

    model: str
    profile: str
    base: int
    wanted: int


def _offer(repository: Repository, step: _Step, tell: Callable[[str], None]) -> None:
    old, new = (repository.manifests(step.model, one).get(step.profile) for one in (step.base, step.wanted))
    if old is None or new is None:
        return
    ref = repository.manifest_refs(step.model, step.wanted)[step.profile]
    offered = {(one.base, one.made) for one in repository.differences_to(ref)}
    for role in (ROLE_MODEL, ROLE_SELFTEST):
        before, after = old.blob(role), new.blob(role)
        if before.sha256 == after.sha256 or (before.sha256, after.sha256) in offered:
            continue
        if after.size_bytes > _LARGE_BYTES:
            tell(f"comparing {step.model} {step.wanted} with version {step.base} for {step.profile}")
        repository.offer_difference(ref, before.ref(), after.ref())


def plans_for(
    repository: Repository,
    devices: Sequence[Device],
    *,
    versions: Mapping[str, int],
    model: str,
    view: FleetView,
    now: float,
    label: str = STABLE,
) -> list[Plan]:
    """Return what giving each device its version of ``model`` would do.

    Args:
        repository: Holds the artifacts.
        devices: Who is addressed.
        versions: By device.
        model: Its name.
        view: What the devices said.
        now: Of the clock of ``view``.
        label: What shall name the version.
    """
    known = set(repository.versions(model))
    had = {device.id: versions_on(view.get(device.id), model) & known for device in devices}
    needed = set(versions.values()).union(*had.values())
    manifests = {version: repository.manifests(model, version) for version in needed}
    refs = {version: repository.manifest_refs(model, version) for version in needed}
    profiles = {name: _profile(name) for name in {device.profile for device in devices}}

    def plan(device: Device) -> Plan:
        version, profile = versions[device.id], device.profile
        there = [manifests[one][profile] for one in had[device.id] if profile in manifests[one]]
        ref = refs[version].get(profile)
        return plan_for(
            device,
            manifests[version],
            profiles[profile],
            view.get(device.id),
            now,
            held={blob.sha256 for manifest in there for blob in manifest.blobs},
            differences=repository.differences_to(ref) if ref else (),
            label=label,
        )

    return [plan(device) for device in devices]


def targets_of(
    repository: Repository, devices: Sequence[Device], model: str, label: str = STABLE
) -> tuple[Target, ...]:
    """Return what each device has been told of ``label`` of ``model`` by what is published now."""
    root_version = repository.root().version
    return tuple(_target(repository, device, model, label, root_version) for device in devices)


def _target(repository: Repository, device: Device, model: str, label: str, root_version: int) -> Target:
    wish = repository.wishes_of(device.id)[model]
    version = wish.labels.get(label, 0)
    if not version:
        return Target(device.id, model, 0, "", repository.generation, label, root_version=root_version)
    manifest = repository.manifest_refs(model, version)[device.profile]
    bound = wish.bound(model, label, manifest)
    return Target(
        device.id,
        model,
        version,
        bound.deployment_id(),
        repository.generation,
        label,
        bound.percent,
        root_version,
    )


def _profile(name: str) -> DeviceProfile | None:
    try:
        return load_profile(name)
    except ProfileError:
        return None  # a kind of device that was described in a file of somebody else's
