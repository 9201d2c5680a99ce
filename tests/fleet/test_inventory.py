"""The inventory is what was saved last, and a name that is not in it is told with a hint."""

import pytest

from edgeferry.fleet.errors import ConfigurationError, UsageError
from edgeferry.fleet.inventory import Device, Inventory, Scope, ScopeKind

PROFILE = "raspberry-pi-4"


@pytest.fixture
def inventory(tmp_path) -> Inventory:
    inventory = Inventory.load(tmp_path)
    inventory.add("cam-1", PROFILE, ["porch"])
    inventory.add("cam-2", PROFILE, ["porch", "garden"])
    inventory.add("door", "coral-dev-board")
    return inventory


def test_a_fleet_without_a_file_has_no_devices(tmp_path):
    assert Inventory.load(tmp_path).devices == {}


def test_what_was_added_is_there_for_the_next_command(inventory, tmp_path):
    again = Inventory.load(tmp_path)

    assert again.devices == inventory.devices
    assert list(again.devices) == ["cam-1", "cam-2", "door"]
    assert again.device("cam-2") == Device(id="cam-2", profile=PROFILE, groups=("garden", "porch"))
    assert again.groups == ("garden", "porch")


def test_what_was_removed_is_gone_for_the_next_command(inventory, tmp_path):
    assert inventory.remove("cam-1").id == "cam-1"

    assert list(Inventory.load(tmp_path).devices) == ["cam-2", "door"]


def test_two_commands_do_not_undo_each_others_changes(inventory, tmp_path):
    other = Inventory.load(tmp_path)
    inventory.add("new-1", PROFILE)

    other.add("new-2", PROFILE)

    assert {"new-1", "new-2"} <= Inventory.load(tmp_path).devices.keys()


@pytest.mark.parametrize(
    ("to", "ids"),
    [
        ("all", ["cam-1", "cam-2", "door"]),
        ("group:porch", ["cam-1", "cam-2"]),
        ("group:garden", ["cam-2"]),
        ("door", ["door"]),
    ],
)
def test_a_scope_selects_its_devices(inventory, to, ids):
    assert [device.id for device in inventory.select(to)] == ids
    assert str(inventory.scope(to)) == to


def test_a_scope_is_a_value(inventory):
    assert inventory.scope("group:porch") == Scope(ScopeKind.GROUP, "porch")


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("cam1", "device 'cam1' is not in the inventory; did you mean 'cam-1'"),
        ("group:porsh", "group 'porsh' has no devices; did you mean 'porch'"),
        ("group:", "group '' has no devices; there are garden, porch"),
    ],
)
def test_an_unknown_name_is_told_with_a_hint(inventory, to, message):
    with pytest.raises(UsageError, match=message):
        inventory.select(to)


def test_removing_what_is_not_there_is_told(inventory):
    with pytest.raises(UsageError, match="did you mean 'door'"):
        inventory.remove("dor")


def test_to_add_what_is_there_changes_nothing(inventory):
    before = inventory.devices

    inventory.add("cam-2", PROFILE, ["garden", "porch", "porch"])

    assert inventory.devices == before


def test_a_device_is_not_replaced_by_accident(inventory):
    with pytest.raises(
        UsageError, match="'cam-1' is in the inventory with profile raspberry-pi-4 and groups porch, not"
    ):
        inventory.add("cam-1", "jetson-nano")

    assert inventory.device("cam-1").profile == PROFILE


def test_a_device_is_replaced_on_purpose(inventory, tmp_path):
    inventory.add("cam-1", "jetson-nano", replace=True)

    assert Inventory.load(tmp_path).device("cam-1") == Device(id="cam-1", profile="jetson-nano")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (Device(id="a/b", profile="p"), "device id 'a/b'"),
        (Device(id="", profile="p"), "device id ''"),
        (Device(id="a", profile="../p"), "profile '../p'"),
        (Device(id="a", profile="p", groups=("b c",)), "group 'b c'"),
        (Device(id="all", profile="p"), "device id 'all' means every device"),
        (Device(id="a", profile="p", groups=("all",)), "group 'all' means every device"),
    ],
)
def test_a_name_that_cannot_stand_in_a_topic_or_a_path_is_refused_with_all_that_came_with_it(
    inventory, device, message
):
    with pytest.raises(UsageError, match=message):
        inventory.extend([Device(id="fine", profile="p"), device])

    assert "fine" not in inventory.devices


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not an inventory"),
        ('{"format":1,"devices":[{"id":"a"}]}', "is not an inventory: .*profile"),
        ('{"format":1,"devices":[{"id":"a","profile":"p","group":"x"}]}', "is not an inventory: .*group"),
        ('{"format":2,"devices":[]}', "format 2, wanted 1; update edgeferry"),
    ],
)
def test_a_file_that_is_not_an_inventory_is_told(tmp_path, content, message):
    (tmp_path / "inventory.json").write_text(content)

    with pytest.raises(ConfigurationError, match=message):
        Inventory.load(tmp_path)
