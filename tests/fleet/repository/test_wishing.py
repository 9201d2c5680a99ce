"""Wishes of several commands come together, or the one that cannot be is told."""

import pytest
from tests.fleet.repository.tools import add
from tests.trust.simulator import PROFILE
from tests.trust.simulator import START as NOW

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.repository import Repository


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", 1, "cam1"), "device 'cam1' is not in the inventory; did you mean 'cam-1'"),
        (("digits", 1, "group:porsh"), "group 'porsh' has no devices; did you mean 'porch'"),
        (("digitz", 1, "all"), "model 'digitz' was never added to this fleet; did you mean 'digits'"),
        (("digits", 2, "all"), "model 'digits' has no version 2; there are 1"),
    ],
)
def test_a_name_that_does_not_exist_is_told_at_once_and_changes_nothing(repository, arguments, message):
    with pytest.raises(UsageError, match=message):
        repository.wish(*arguments)

    assert repository.publish(NOW) == 2


def test_a_wish_is_known_before_it_is_published(repository, folder):
    repository.wish("digits", 1, "group:porch")

    assert repository.wishes_of("cam-1").keys() == {"digits"}
    assert repository.wishes_of("door") == {}
    assert Repository.open(folder).wishes_of("cam-1") == {}


def test_wishes_of_an_unknown_device_are_an_error(repository):
    with pytest.raises(UsageError, match="did you mean 'door'"):
        repository.wishes_of("dor")


def test_a_withdrawn_wish_is_gone(repository):
    repository.wish("digits", 1, "all")
    repository.publish(NOW)

    repository.unwish("digits", "all")

    assert repository.publish(NOW) == 4
    assert repository.wishes_of("cam-1") == {}


def test_wishes_of_two_commands_come_together(repository, folder, tmp_path):
    other = Repository.open(folder)
    add(other, tmp_path, 1, name="owls")
    other.wish("owls", 1, "all")
    repository.wish("digits", 1, "all")

    other.publish(NOW)
    repository.publish(NOW)

    assert Repository.open(folder).wishes_of("door").keys() == {"digits", "owls"}


def test_a_wish_that_another_command_made_impossible_is_told_and_changes_nothing(repository, folder):
    other = Repository.open(folder)
    repository.wish("digits", 1, "group:porch")
    other.wish("digits", 1, "group:garden")
    other.publish(NOW)

    with pytest.raises(UsageError, match="'cam-2' is in the groups 'garden' and 'porch'"):
        repository.publish(NOW)
    assert Repository.open(folder).wishes_of("cam-1") == {}


def test_groups_that_contradict_each_other_after_a_change_of_the_inventory_are_not_signed(repository):
    repository.inventory.add("new", PROFILE, ["attic"])
    for group in ("porch", "attic"):
        repository.wish("digits", 1, f"group:{group}")
    repository.publish(NOW)
    repository.inventory.add("cam-1", PROFILE, ["porch", "attic"], replace=True)

    with pytest.raises(UsageError, match="'cam-1' is in the groups 'attic' and 'porch'"):
        repository.publish(NOW)

    repository.inventory.add("cam-1", PROFILE, ["porch"], replace=True)
    repository.publish(NOW)


def test_a_device_that_is_removed_takes_its_wishes_with_it(repository):
    repository.wish("digits", 1, "cam-1")
    repository.publish(NOW)
    repository.inventory.remove("cam-1")
    repository.publish(NOW)
    repository.inventory.add("cam-1", PROFILE)

    repository.publish(NOW)

    assert repository.wishes_of("cam-1") == {}
