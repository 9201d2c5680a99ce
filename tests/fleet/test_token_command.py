"""`token` gives a password to devices alone, and renews what is known without forgetting it."""

import json
from pathlib import Path

import pytest
from tests.brokers import free_port
from tests.fleet.conftest import Run

from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.settings import Passwords
from edgeferry.wire.joining import parse_token

PROFILE = ("-p", "generic-x86-64")


@pytest.fixture
def edgeferry(run_edgeferry: Run) -> Run:
    """Return `edgeferry` on a fleet with the operator ``ada``, the device ``pi-1`` and no broker."""
    url = f"mqtt://127.0.0.1:{free_port()}"
    assert run_edgeferry("init", "--broker", url, "--operator", "ada").exit_code == 0
    assert run_edgeferry("token", "pi-1", *PROFILE, "--group", "kitchens").exit_code == 0
    return run_edgeferry


@pytest.mark.parametrize("options", [(), ("--renew",)])
def test_the_operators_password_is_handed_to_no_device(edgeferry: Run, fleet_dir: Path, options: tuple[str]) -> None:
    before = Passwords(fleet_dir).load()

    done = edgeferry("token", "ada", *PROFILE, *options)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "'ada' is the operator of this fleet, not a device" in done.stderr
    assert Passwords(fleet_dir).load() == before
    assert "ada" not in Inventory.load(fleet_dir).devices


def test_the_password_of_a_user_who_is_no_device_is_handed_to_none(edgeferry: Run, fleet_dir: Path) -> None:
    Passwords(fleet_dir).put("monitor", "x")

    done = edgeferry("token", "monitor", *PROFILE)

    assert done.exit_code == 2
    assert "'monitor' is a user at the broker already" in done.stderr
    assert Passwords(fleet_dir).of("monitor") == "x"


def test_an_unknown_device_is_not_renewed(edgeferry: Run, fleet_dir: Path) -> None:
    done = edgeferry("token", "pi-2", *PROFILE, "--renew")

    assert done.exit_code == 2
    assert "device 'pi-2' is not in the inventory; did you mean 'pi-1'?" in done.stderr
    assert list(Inventory.load(fleet_dir).devices) == ["pi-1"]


def test_a_renewed_device_keeps_its_profile_and_groups(edgeferry: Run) -> None:
    token = parse_token(edgeferry("token", "pi-1", "--renew").stdout)

    assert (token.profile, token.groups) == ("generic-x86-64", ("kitchens",))


def test_a_renewed_device_takes_the_profile_and_groups_that_are_given(edgeferry: Run) -> None:
    token = parse_token(edgeferry("token", "pi-1", "--renew", "-p", "raspberry-pi-4", "--group", "porch").stdout)

    assert (token.profile, token.groups) == ("raspberry-pi-4", ("porch",))


def test_a_new_device_needs_a_profile(edgeferry: Run, fleet_dir: Path) -> None:
    done = edgeferry("token", "pi-2")

    assert done.exit_code == 2
    assert "say what kind it is with -p" in done.stderr
    assert "pi-2" not in json.loads((fleet_dir / "secrets" / "passwords.json").read_text())


def test_a_group_called_as_everyone_is_refused(edgeferry: Run) -> None:
    done = edgeferry("token", "pi-2", *PROFILE, "--group", "all")

    assert done.exit_code == 2
    assert "group 'all' means every device; choose another one" in done.stderr
