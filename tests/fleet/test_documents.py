"""Wishes: the more specific one wins, the wider one replaces, and no device is told two things at once."""

import pytest

from edgeferry.fleet.documents import LISTED_VERSIONS, Plan, PublishedManifest
from edgeferry.fleet.errors import ArtifactError, UsageError
from edgeferry.fleet.inventory import Device, Scope, ScopeKind
from edgeferry.wire.desired import BlobRef, decode_document

CAM_1 = Device(id="cam-1", profile="p", groups=("porch",))
CAM_2 = Device(id="cam-2", profile="p", groups=("garden", "porch"))
DOOR = Device(id="door", profile="q")
DEVICES = [CAM_1, CAM_2, DOOR]

EVERYONE = Scope(ScopeKind.EVERYONE)
PORCH = Scope(ScopeKind.GROUP, "porch")
GARDEN = Scope(ScopeKind.GROUP, "garden")


def only(device: Device) -> Scope:
    return Scope(ScopeKind.DEVICE, device.id)


def ref(number: int) -> BlobRef:
    return BlobRef(sha256=f"{number:064x}", size_bytes=number)


def running(plan: Plan) -> list[int]:
    """Return the version of digits that each device shall run; 0 for none."""
    wishes = [plan.wishes_of(device).get("digits") for device in DEVICES]
    return [wish.labels["stable"] if wish else 0 for wish in wishes]


@pytest.fixture
def plan() -> Plan:
    plan = Plan()
    for version in range(1, 9):
        plan = plan.with_manifest(PublishedManifest("digits", version, "p", ref(version)))
    return plan.with_manifest(PublishedManifest("owls", 1, "p", ref(99)))


def test_a_wish_for_all_reaches_everyone(plan):
    assert running(plan.with_wish("digits", 1, EVERYONE, DEVICES)) == [1, 1, 1]


def test_the_more_specific_wish_wins(plan):
    plan = plan.with_wish("digits", 1, EVERYONE, DEVICES)
    plan = plan.with_wish("digits", 2, PORCH, DEVICES)
    plan = plan.with_wish("digits", 3, only(CAM_2), DEVICES)

    assert running(plan) == [2, 3, 1]


def test_a_wish_for_all_replaces_every_narrower_one_of_that_model(plan):
    plan = plan.with_wish("digits", 2, PORCH, DEVICES).with_wish("digits", 3, only(CAM_2), DEVICES)
    plan = plan.with_wish("owls", 1, only(CAM_2), DEVICES)

    plan = plan.with_wish("digits", 4, EVERYONE, DEVICES)

    assert running(plan) == [4, 4, 4]
    assert plan.wishes_of(CAM_2).keys() == {"digits", "owls"}
    assert plan.groups == {}


def test_a_wish_for_a_group_replaces_those_of_its_devices_alone(plan):
    for device in DEVICES:
        plan = plan.with_wish("digits", 1, only(device), DEVICES)

    assert running(plan.with_wish("digits", 2, PORCH, DEVICES)) == [2, 2, 1]


def test_a_wish_for_a_device_leaves_its_groups_wish_to_the_others(plan):
    plan = plan.with_wish("digits", 1, PORCH, DEVICES)

    assert running(plan.with_wish("digits", 2, only(CAM_1), DEVICES)) == [2, 1, 0]


def test_two_groups_of_one_device_cannot_name_the_same_model(plan):
    plan = plan.with_wish("digits", 1, PORCH, DEVICES)

    with pytest.raises(
        UsageError, match="'cam-2' is in the groups 'garden' and 'porch', and both would name a version"
    ):
        plan.with_wish("digits", 2, GARDEN, DEVICES)


def test_two_groups_of_one_device_may_name_different_models(plan):
    plan = plan.with_wish("digits", 1, PORCH, DEVICES).with_wish("owls", 1, GARDEN, DEVICES)

    assert plan.wishes_of(CAM_2).keys() == {"digits", "owls"}


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("digit", 1, "model 'digit' was never added to this fleet; did you mean 'digits'"),
        ("digits", 9, "model 'digits' has no version 9; there are 1, 2, 3, 4, 5, 6, 7, 8"),
    ],
)
def test_what_was_never_added_cannot_be_wished(plan, model, version, message):
    with pytest.raises(UsageError, match=message):
        plan.with_wish(model, version, EVERYONE, DEVICES)


def test_the_same_wish_again_changes_nothing(plan):
    plan = plan.with_wish("digits", 1, EVERYONE, DEVICES)

    assert plan.with_wish("digits", 1, EVERYONE, DEVICES) == plan


def test_each_retry_is_an_attempt_that_was_never_made_before(plan):
    attempts = []
    for version, retry in [(1, False), (1, True), (2, False), (1, False), (1, True)]:
        plan = plan.with_wish("digits", version, EVERYONE, DEVICES, retry=retry)
        attempts.append(plan.wishes_of(DOOR)["digits"].attempt)

    assert attempts == [0, 1, 0, 1, 2]


def test_a_withdrawn_wish_is_gone_with_all_narrower_ones(plan):
    plan = plan.with_wish("digits", 1, EVERYONE, DEVICES).with_wish("digits", 2, PORCH, DEVICES)
    plan = plan.with_wish("digits", 3, only(DOOR), DEVICES)

    assert running(plan.without_wish("digits", PORCH, DEVICES)) == [1, 1, 3]
    assert running(plan.without_wish("digits", only(DOOR), DEVICES)) == [2, 2, 1]
    assert running(plan.without_wish("digits", EVERYONE, DEVICES)) == [0, 0, 0]


def test_withdrawing_what_is_not_wished_there_says_where_it_is(plan):
    wished = plan.with_wish("digits", 1, EVERYONE, DEVICES).with_wish("digits", 2, PORCH, DEVICES)
    wished = wished.with_wish("digits", 3, only(CAM_2), DEVICES)

    with pytest.raises(UsageError, match="'digits' within door; it is wished by all, group:porch, cam-2"):
        wished.without_wish("digits", only(DOOR), DEVICES)
    with pytest.raises(UsageError, match="'digits' within all; nobody wishes it"):
        plan.without_wish("digits", EVERYONE, DEVICES)


def test_a_published_version_never_changes(plan):
    assert plan.with_manifest(PublishedManifest("digits", 3, "p", ref(3))) == plan
    with pytest.raises(ArtifactError, match=r"digits 3 for p was published with other bytes .* as version 9"):
        plan.with_manifest(PublishedManifest("digits", 3, "p", ref(4)))


def test_a_published_version_may_get_another_profile(plan):
    plan = plan.with_manifest(PublishedManifest("digits", 3, "q", ref(33)))

    assert plan.manifests_of("digits", 3) == {"p": ref(3), "q": ref(33)}


def test_the_newest_five_versions_are_listed_and_what_is_wished(plan):
    plan = plan.with_wish("digits", 2, only(DOOR), DEVICES)

    assert plan.listed_versions("digits") == (2, 4, 5, 6, 7, 8)
    assert len(plan.listed_versions("digits")) == LISTED_VERSIONS + 1
    assert plan.listed_versions("unknown") == ()
    assert "models/digits/2/p/artifact.json" in plan.listed_manifests()
    assert "models/digits/3/p/artifact.json" not in plan.listed_manifests()


def test_there_is_a_document_for_all_for_each_group_and_for_each_device(plan):
    plan = plan.with_wish("digits", 1, EVERYONE, DEVICES).with_wish("owls", 1, GARDEN, DEVICES)

    documents = {path: decode_document(data) for path, data in plan.documents(DEVICES).items()}

    assert sorted(documents) == [
        "desired/all.json",
        "desired/device/cam-1.json",
        "desired/device/cam-2.json",
        "desired/device/door.json",
        "desired/group/garden.json",
        "desired/group/porch.json",
    ]
    assert documents["desired/all.json"].models.keys() == {"digits"}
    assert documents["desired/group/garden.json"].models.keys() == {"owls"}
    assert documents["desired/device/cam-2.json"].groups == ("garden", "porch")


def test_a_device_that_is_gone_leaves_no_wishes(plan):
    plan = plan.with_wish("digits", 1, only(DOOR), DEVICES).with_wish("digits", 2, only(CAM_1), DEVICES)

    assert plan.pruned([CAM_1]).devices.keys() == {"cam-1"}
