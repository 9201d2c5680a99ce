"""The operator's list of devices, and what `--to` means.

`inventory.json` is the truth; it is read anew before each change, so that two commands do not undo each other's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from edgeferry.fleet.errors import ConfigurationError, UsageError, did_you_mean
from edgeferry.fleet.files import explained, folder_lock, write_atomically
from edgeferry.wire.codec import WireError
from edgeferry.wire.topics import check_id, check_name

__all__ = ["EVERYONE", "Device", "Inventory", "Scope", "ScopeKind"]

EVERYONE = "all"
_GROUP_PREFIX = "group:"
_FORMAT = 1


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device of this fleet.

    Attributes:
        id: Its id, which is its MQTT user name too.
        profile: Name of the device profile whose artifacts it runs.
        groups: Sorted names of the groups that it is in.
    """

    id: str
    profile: str
    groups: tuple[str, ...] = ()


class ScopeKind(Enum):
    """How many devices a scope means."""

    EVERYONE = "all"
    GROUP = "group"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Scope:
    """What `--to` names: everyone, one group or one device.

    Attributes:
        name: Of the group or the device; empty for everyone.
    """

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return {ScopeKind.EVERYONE: EVERYONE, ScopeKind.GROUP: _GROUP_PREFIX + self.name}.get(self.kind, self.name)

    def holds(self, device: Device) -> bool:
        """Tell whether ``device`` is meant."""
        if self.kind is ScopeKind.GROUP:
            return self.name in device.groups
        return self.kind is ScopeKind.EVERYONE or self.name == device.id


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    devices: list[Device]


class Inventory:
    """The devices of the fleet in ``fleet_dir``; `add` and `remove` last when they return."""

    def __init__(self, fleet_dir: Path, devices: Iterable[Device] = ()) -> None:
        self._path = fleet_dir / "inventory.json"
        self._lock = fleet_dir / "lock"
        self._devices = {device.id: device for device in devices}

    @classmethod
    def load(cls, fleet_dir: Path) -> "Inventory":
        """Return the inventory that is saved in ``fleet_dir``; empty when there is none.

        Raises:
            ConfigurationError: The file cannot be read or is not an inventory.
        """
        inventory = cls(fleet_dir)
        inventory.reload()
        return inventory

    @property
    def devices(self) -> dict[str, Device]:
        """Return the devices by id, in the order of their ids."""
        return dict(sorted(self._devices.items()))

    @property
    def groups(self) -> tuple[str, ...]:
        """Return the names of all groups that a device is in, sorted."""
        return tuple(sorted({group for device in self._devices.values() for group in device.groups}))

    def reload(self) -> None:
        """Take over what other commands have saved.

        Raises:
            ConfigurationError: The file cannot be read or is not an inventory.
        """
        self._devices = {device.id: device for device in self._read()}

    def add(self, id: str, profile: str, groups: Iterable[str] = (), *, replace: bool = False) -> Device:  # noqa: A002 - "id" is the word everywhere
        """Add a device and save; to add what is there already changes nothing.

        Args:
            id: 1 to 64 of a-z A-Z 0-9 _ -, but not ``all``.
            profile: Name of its device profile.
            groups: Names of the groups that it is in.
            replace: Let it take the place of a device of the same id that differs.

        Raises:
            UsageError: A name is not usable, or the id is taken by a device that differs.
        """
        device = _checked(Device(id=id, profile=profile, groups=tuple(sorted(set(groups)))))
        self.extend([device], replace=replace)
        return device

    def extend(self, devices: Iterable[Device], *, replace: bool = False) -> None:
        """Add many devices and save once; all or none.

        Raises:
            UsageError: As `add` does.
        """
        added = [_checked(device) for device in devices]
        with folder_lock(self._lock):
            self.reload()
            for device in added:
                _check_free(self._devices.get(device.id), device, replace=replace)
            self._save({**self._devices, **{device.id: device for device in added}})

    def remove(self, id: str) -> Device:  # noqa: A002 - "id" is the word everywhere
        """Remove a device, save, and return what it was.

        Raises:
            UsageError: There is no such device.
        """
        with folder_lock(self._lock):
            self.reload()
            device = self.device(id)
            self._save({key: value for key, value in self._devices.items() if key != id})
        return device

    def device(self, id: str) -> Device:  # noqa: A002 - "id" is the word everywhere
        """Return one device.

        Raises:
            UsageError: There is no such device.
        """
        if id not in self._devices:
            raise UsageError(f"device {id!r} is not in the inventory{did_you_mean(id, self._devices)}")
        return self._devices[id]

    def scope(self, to: str) -> Scope:
        """Return what ``to`` means: ``all``, ``group:NAME`` or the id of a device.

        Raises:
            UsageError: There is no such group or device.
        """
        if to == EVERYONE:
            return Scope(ScopeKind.EVERYONE)
        if to.startswith(_GROUP_PREFIX):
            name = to.removeprefix(_GROUP_PREFIX)
            if name not in self.groups:
                raise UsageError(f"group {name!r} has no devices{did_you_mean(name, self.groups)}")
            return Scope(ScopeKind.GROUP, name)
        return Scope(ScopeKind.DEVICE, self.device(to).id)

    def select(self, to: str) -> list[Device]:
        """Return the devices that ``to`` means, in the order of their ids.

        Raises:
            UsageError: There is no such group or device.
        """
        scope = self.scope(to)
        return [device for device in self.devices.values() if scope.holds(device)]

    def _read(self) -> list[Device]:
        try:
            with explained(self._path):
                data = self._path.read_bytes() if self._path.exists() else b""
            file = msgspec.json.decode(data, type=_File) if data else _File(_FORMAT, [])
        except msgspec.DecodeError as err:
            raise ConfigurationError(f"{self._path}: is not an inventory: {err}; restore it from a backup") from err
        if file.format != _FORMAT:
            raise ConfigurationError(f"{self._path}: format {file.format}, wanted {_FORMAT}; update edgeferry")
        return file.devices

    def _save(self, devices: dict[str, Device]) -> None:
        file = _File(_FORMAT, [device for _, device in sorted(devices.items())])
        write_atomically(self._path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
        self._devices = devices


def _checked(device: Device) -> Device:
    try:
        check_id(device.id, what="device id")
        check_name(device.profile, what="profile")
        for group in device.groups:
            check_id(group, what="group")
            _refuse_everyone(group, what="group")
    except WireError as err:
        raise UsageError(str(err)) from err
    _refuse_everyone(device.id, what="device id")
    return device


def _refuse_everyone(name: str, *, what: str) -> None:
    if name == EVERYONE:
        raise UsageError(f"{what} {EVERYONE!r} means every device; choose another one")


def _check_free(present: Device | None, device: Device, *, replace: bool) -> None:
    if present is None or present == device or replace:
        return
    raise UsageError(
        f"device {device.id!r} is in the inventory with profile {present.profile} and groups"
        f" {', '.join(present.groups) or 'none'}, not {device.profile} and {', '.join(device.groups) or 'none'};"
        " remove it first, or keep what it has"
    )
