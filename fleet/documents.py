"""What the operator wishes, and the documents and manifests that say it to the devices.

Pure. Decides what a wish for a wider scope does to narrower ones (it replaces them), which wishes contradict each
other (two groups of one device that name the same model), and which versions stay listed (the newest five, and
whatever is wished).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from edgeferry.fleet.errors import ArtifactError, UsageError, did_you_mean
from edgeferry.fleet.inventory import Device, Scope, ScopeKind
from edgeferry.wire.codec import Message, canonical
from edgeferry.wire.desired import (
    CANARY,
    CANARY_PERCENT,
    FORMAT,
    MAX_DIFFERENCES,
    PREVIOUS,
    STABLE,
    BlobRef,
    DesiredDocument,
    DifferenceRef,
    Wish,
    all_document_path,
    device_document_path,
    group_document_path,
    manifest_path,
    merge_documents,
)

__all__ = ["LISTED_VERSIONS", "Canary", "ListedFile", "Plan", "PublishedManifest"]

LISTED_VERSIONS = 5

Wishes = dict[str, Wish]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PublishedManifest:
    """A manifest on its way into the fleet: whose it is and which bytes it has."""

    model: str
    version: int
    profile: str
    ref: BlobRef


class ListedFile(BlobRef, frozen=True):
    """A file that the signed metadata lists.

    Attributes:
        differences: Of a manifest: how its blobs can be made from older ones.
    """

    differences: tuple[DifferenceRef, ...] = ()

    @classmethod
    def of(cls, ref: BlobRef, differences: tuple[DifferenceRef, ...] = ()) -> "ListedFile":
        """Return the blob ``ref`` as a listed file."""
        return cls(sha256=ref.sha256, size_bytes=ref.size_bytes, differences=differences)


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that answers a share of the requests beside the stable one.

    Attributes:
        percent: Its share; with 0 only those ask it that name its label.
    """

    version: int
    percent: int


class Plan(Message, frozen=True):
    """All that the operator has decided; what it says to the devices follows from it and from the inventory.

    Attributes:
        manifests: By model, version and profile; a version once here never changes.
        differences: How blobs of a manifest can be made from older ones, by the manifest's SHA-256.
        attempts: How often a version of a model was told to be tried again.
        everyone: Wishes for all devices, by model.
        groups: Wishes for a group, by group and model.
        devices: Wishes for one device, by device and model.
    """

    manifests: dict[str, dict[int, dict[str, BlobRef]]] = msgspec.field(default_factory=dict)
    differences: dict[str, tuple[DifferenceRef, ...]] = msgspec.field(default_factory=dict)
    attempts: dict[str, dict[int, int]] = msgspec.field(default_factory=dict)
    everyone: Wishes = msgspec.field(default_factory=dict)
    groups: dict[str, Wishes] = msgspec.field(default_factory=dict)
    devices: dict[str, Wishes] = msgspec.field(default_factory=dict)

    def with_manifest(self, added: PublishedManifest) -> "Plan":
        """Return the plan with one manifest more.

        Raises:
            ArtifactError: That version was published with other bytes.
        """
        versions = self.manifests.get(added.model, {})
        profiles = versions.get(added.version, {})
        present = profiles.get(added.profile, added.ref)
        if present != added.ref:
            raise ArtifactError(
                f"{added.model} {added.version} for {added.profile} was published with other bytes (manifest"
                f" {present.sha256[:12]}..., now {added.ref.sha256[:12]}...); a version never changes: convert the"
                f" model again as version {max(versions) + 1}"
            )
        versions = {**versions, added.version: {**profiles, added.profile: added.ref}}
        return msgspec.structs.replace(self, manifests={**self.manifests, added.model: versions})

    def with_differences(self, manifest: BlobRef, added: Iterable[DifferenceRef]) -> "Plan":
        """Return the plan that offers more differences to the blobs of ``manifest``; the newest are kept."""
        offered = dict.fromkeys((*self.differences.get(manifest.sha256, ()), *added))
        kept = tuple(offered)[-MAX_DIFFERENCES:]
        return msgspec.structs.replace(self, differences={**self.differences, manifest.sha256: kept})

    def manifests_of(self, model: str, version: int) -> dict[str, BlobRef]:
        """Return the manifests of one version, by profile.

        Raises:
            UsageError: There is no such model or version.
        """
        if model not in self.manifests:
            raise UsageError(f"model {model!r} was never added to this fleet{did_you_mean(model, self.manifests)}")
        versions = self.manifests[model]
        if version not in versions:
            there = ", ".join(map(str, sorted(versions)))
            raise UsageError(f"model {model!r} has no version {version}; there are {there}")
        return versions[version]

    def with_wish(
        self,
        model: str,
        version: int,
        scope: Scope,
        devices: Iterable[Device],
        *,
        canary: Canary | None = None,
        previous: int = 0,
        retry: bool = False,
    ) -> "Plan":
        """Return the plan in which every device of ``scope`` shall run ``version`` of ``model``.

        Args:
            model: Of this fleet.
            version: Of the model; what answers.
            scope: Whom the wish is for.
            devices: All devices of the fleet.
            canary: What answers a share of the requests beside it.
            previous: A version that stays loaded, labelled ``previous``; 0 for none.
            retry: Make it a new deployment for devices where the newest of these versions has failed before.

        Raises:
            UsageError: There is no such version, or the wish contradicts another group's.
        """
        labels = {STABLE: version} | ({CANARY: canary.version} if canary else {})
        labels |= {PREVIOUS: previous} if previous else {}
        for each in labels.values():
            self.manifests_of(model, each)
        devices = list(devices)
        plan = self._retried(model, canary.version if canary else version) if retry else self
        wish = plan._wish(model, labels, canary.percent if canary else 0)  # noqa: SLF001 - of this class
        plan = _with(_narrowed(plan, model, scope, devices), model, scope, wish)
        plan.check(devices)
        return plan

    def _wish(self, model: str, labels: dict[str, int], percent: int) -> Wish:
        tried = self.attempts.get(model, {})
        others = {label: tried[version] for label, version in labels.items() if label != STABLE and version in tried}
        return Wish(
            versions=tuple(sorted(set(labels.values()))),
            labels=labels,
            settings={CANARY_PERCENT: percent} if percent else {},
            attempt=tried.get(labels[STABLE], 0),
            attempts=others,
        )

    def without_wish(self, model: str, scope: Scope, devices: Iterable[Device]) -> "Plan":
        """Return the plan in which neither ``scope`` nor anything within it names ``model``.

        Raises:
            UsageError: Nothing there names it.
        """
        plan = _narrowed(self, model, scope, list(devices))
        if plan == self:
            wished_by = self._named_by(model)
            advice = f"; it is wished by {', '.join(wished_by)}" if wished_by else "; nobody wishes it"
            raise UsageError(f"no wish for model {model!r} within {scope}{advice}")
        return plan

    def wishes_of(self, device: Device) -> Wishes:
        """Return what ``device`` shall run, by model."""
        groups = {name: _document(self.groups.get(name, {})) for name in device.groups}
        own = _document(self.devices.get(device.id, {}))
        return merge_documents(_document(self.everyone), groups, own)

    def check(self, devices: Iterable[Device]) -> None:
        """Make sure that no device is told two things at once.

        Raises:
            UsageError: Two groups of a device name the same model.
        """
        for device in devices:
            named_by: dict[str, str] = {}
            for group in device.groups:
                for model in self.groups.get(group, {}):
                    if model in named_by:
                        raise UsageError(
                            f"device {device.id!r} is in the groups {named_by[model]!r} and {group!r}, and both would"
                            f" name a version of {model!r}; give one wish to all of them, or change the groups"
                        )
                    named_by[model] = group

    def pruned(self, devices: Iterable[Device]) -> "Plan":
        """Return the plan without wishes for devices that are gone, and without differences to what is not listed."""
        there = {device.id for device in devices}
        listed = {file.sha256 for file in self.listed_manifests().values()}
        return msgspec.structs.replace(
            self,
            devices={k: v for k, v in self.devices.items() if k in there},
            differences={k: v for k, v in self.differences.items() if k in listed},
        )

    def documents(self, devices: Iterable[Device]) -> dict[str, bytes]:
        """Return what is said to ``devices``, by target path: a document for all, for each group, for each device."""
        devices = list(devices)
        groups = {group for device in devices for group in device.groups} | self.groups.keys()
        documents = {all_document_path(): _document(self.everyone)}
        documents |= {group_document_path(name): _document(self.groups.get(name, {})) for name in groups}
        documents |= {
            device_document_path(device.id): _document(self.devices.get(device.id, {}), device.groups)
            for device in devices
        }
        return {path: canonical(document) for path, document in documents.items()}

    def listed_manifests(self) -> dict[str, ListedFile]:
        """Return the manifests that devices may take, by target path."""
        return {
            manifest_path(model, version, profile): ListedFile.of(ref, self.differences.get(ref.sha256, ()))
            for model, versions in self.manifests.items()
            for version in self.listed_versions(model)
            for profile, ref in versions[version].items()
        }

    def listed_versions(self, model: str) -> tuple[int, ...]:
        """Return the versions of ``model`` that devices can be told to run, ascending."""
        known = sorted(self.manifests.get(model, {}))
        wished = {version for wishes in self._all_wishes() if model in wishes for version in wishes[model].versions}
        return tuple(version for version in known if version in wished or version in known[-LISTED_VERSIONS:])

    def _all_wishes(self) -> list[Wishes]:
        return [self.everyone, *self.groups.values(), *self.devices.values()]

    def _named_by(self, model: str) -> list[str]:
        named_by = ["all"] if model in self.everyone else []
        named_by += [f"group:{name}" for name, wishes in sorted(self.groups.items()) if model in wishes]
        return named_by + [name for name, wishes in sorted(self.devices.items()) if model in wishes]

    def _retried(self, model: str, version: int) -> "Plan":
        attempts = self.attempts.get(model, {})
        attempts = {**attempts, version: attempts.get(version, 0) + 1}
        return msgspec.structs.replace(self, attempts={**self.attempts, model: attempts})


def _with(plan: Plan, model: str, scope: Scope, wish: Wish) -> Plan:
    if scope.kind is ScopeKind.EVERYONE:
        return msgspec.structs.replace(plan, everyone={**plan.everyone, model: wish})
    if scope.kind is ScopeKind.GROUP:
        groups = {**plan.groups, scope.name: {**plan.groups.get(scope.name, {}), model: wish}}
        return msgspec.structs.replace(plan, groups=groups)
    devices = {**plan.devices, scope.name: {**plan.devices.get(scope.name, {}), model: wish}}
    return msgspec.structs.replace(plan, devices=devices)


def _narrowed(plan: Plan, model: str, scope: Scope, devices: list[Device]) -> Plan:
    """Return the plan without any wish for ``model`` in ``scope`` or in anything that lies within it."""
    if scope.kind is ScopeKind.EVERYONE:
        groups, within = set(plan.groups), set(plan.devices)
    else:
        groups = {scope.name} if scope.kind is ScopeKind.GROUP else set()
        within = {device.id for device in devices if scope.holds(device)}
    return msgspec.structs.replace(
        plan,
        everyone=_without(plan.everyone, model) if scope.kind is ScopeKind.EVERYONE else plan.everyone,
        groups=_all_without(plan.groups, groups, model),
        devices=_all_without(plan.devices, within, model),
    )


def _document(wishes: Wishes, groups: tuple[str, ...] = ()) -> DesiredDocument:
    return DesiredDocument(format=FORMAT, models=wishes, groups=groups)


def _without(values: Mapping[str, T], name: str) -> dict[str, T]:
    return {key: value for key, value in values.items() if key != name}


def _all_without(wishes: Mapping[str, Wishes], names: set[str], model: str) -> dict[str, Wishes]:
    left = {name: _without(models, model) if name in names else models for name, models in wishes.items()}
    return {name: models for name, models in left.items() if models}
