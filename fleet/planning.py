"""From the repository and the view to plans and targets: what `push` and `rollback` have in common."""

from collections.abc import Mapping, Sequence

from edgeferry.device_profiles import DeviceProfile, ProfileError, load_profile
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import FleetView
from edgeferry.fleet.push import Plan, Target, plan_for
from edgeferry.fleet.repository import Repository
from edgeferry.wire.desired import STABLE, ModelWish

__all__ = ["plans_for", "targets_of"]


def plans_for(
    repository: Repository,
    devices: Sequence[Device],
    *,
    versions: Mapping[str, int],
    model: str,
    view: FleetView,
    now: float,
) -> list[Plan]:
    """Return what giving each device its version of ``model`` would do.

    Args:
        repository: Holds the artifacts.
        devices: Who is addressed.
        versions: By device.
        model: Its name.
        view: What the devices said.
        now: Of the clock of ``view``.
    """
    manifests = {version: repository.manifests(model, version) for version in set(versions.values())}
    profiles = {name: _profile(name) for name in {device.profile for device in devices}}
    return [
        plan_for(device, manifests[versions[device.id]], profiles[device.profile], view.get(device.id), now)
        for device in devices
    ]


def targets_of(repository: Repository, devices: Sequence[Device], model: str) -> tuple[Target, ...]:
    """Return what each device has been told of ``model`` by what is published now."""
    return tuple(_target(repository, device, model) for device in devices)


def _target(repository: Repository, device: Device, model: str) -> Target:
    wish = repository.wishes_of(device.id)[model]
    version = wish.labels[STABLE]
    manifest = repository.manifest_refs(model, version)[device.profile]
    deployment = ModelWish(model=model, version=version, manifest=manifest, attempt=wish.attempt).deployment_id()
    return Target(device.id, model, version, deployment, repository.generation)


def _profile(name: str) -> DeviceProfile | None:
    try:
        return load_profile(name)
    except ProfileError:
        return None  # a kind of device that was described in a file of somebody else's
