"""Root keys in several hands: each holder signs on a machine of his own, and devices follow without being touched."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tests.fleet.conftest import Run
from tests.fleet.keys.conftest import must
from tests.trust.simulator import Device, Fleet, reason, refused

from edgeferry.fleet.commands import keys as keys_command
from edgeferry.fleet.errors import ConfigurationError, ConflictError, UsageError
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.roots import (
    parse_public_key,
    parse_root,
    public_key_of,
    role_of_key,
    with_added_key,
    with_key,
)
from edgeferry.wire.messages import Reason


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet with the device cam-1, to which version 1 of digits was pushed; its keys lie open."""
    fleet = Fleet(tmp_path)
    fleet.enroll("cam-1", "porch")
    fleet.push(1)
    return fleet


@pytest.fixture
def device(fleet: Fleet, tmp_path: Path) -> Device:
    """cam-1, which believes what is published."""
    device = Device(tmp_path / "run", fleet.repository.roots()[1])
    device.follow(fleet.broker(), fleet.now_ms)
    return device


class Holder:
    """Somebody with a root key and no fleet folder."""

    def __init__(self) -> None:
        self.signer = CryptoSigner.generate_ed25519()

    def sign(self, proposal: bytes) -> bytes:
        metadata = parse_root(proposal, "proposal")
        metadata.sign(self.signer, append=True)
        return metadata.to_bytes()


@pytest.fixture
def holders(fleet: Fleet) -> tuple[Holder, Holder]:
    """Bob and Carol, of whose keys and the operator's two have to sign."""
    bob, carol = Holder(), Holder()
    rekeying = Rekeying(fleet.repository)
    assert rekeying.add(KeyRole.ROOT, bob.signer.public_key, fleet.now)
    assert not rekeying.add(KeyRole.ROOT, carol.signer.public_key, fleet.now, threshold=2)
    assert sign_in_turn(fleet, bob)
    return bob, carol


def sign_in_turn(fleet: Fleet, *holders: Holder) -> bool:
    """Have each of `holders` sign what waits; return whether it is published."""
    proposal = fleet.repository.root_folder.proposal_path.read_bytes()
    for holder in holders:
        proposal = holder.sign(proposal)
    return Rekeying(fleet.repository).adopt(proposal, "proposal", fleet.now)


def follows(fleet: Fleet, device: Device) -> bool:
    """Tell whether a version that is pushed now is believed."""
    version = max(fleet.repository.versions("digits")) + 1
    fleet.push(version)
    return device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == version


def test_devices_follow_to_two_of_three_root_keys(fleet: Fleet, device: Device, holders: tuple[Holder, Holder]) -> None:
    assert Rekeying(fleet.repository).thresholds()[KeyRole.ROOT] == 2
    assert len(Rekeying(fleet.repository).keyids()[KeyRole.ROOT]) == 3
    assert follows(fleet, device)
    assert device.client.root_version == 3


@pytest.mark.parametrize("role", [role for role in KeyRole if role not in {KeyRole.ROOT, KeyRole.DOCUMENTS}])
def test_one_of_three_holders_cannot_replace_a_key_alone_and_two_can(
    fleet: Fleet, device: Device, holders: tuple[Holder, Holder], role: KeyRole
) -> None:
    before = Rekeying(fleet.repository).keyids()[role]

    assert not Rekeying(fleet.repository).rotate(role, fleet.now)
    assert Rekeying(fleet.repository).keyids()[role] == before
    assert follows(fleet, device)

    assert sign_in_turn(fleet, holders[1])
    assert Rekeying(fleet.repository).keyids()[role] != before
    assert follows(fleet, device)


def test_a_root_key_that_was_stolen_alone_can_do_nothing_and_is_revoked_by_the_others(
    fleet: Fleet, device: Device, holders: tuple[Holder, Holder]
) -> None:
    bob, carol = holders
    Rekeying(fleet.repository).rotate(KeyRole.TARGETS, fleet.now)  # signed by the operator's key alone: the stolen one
    broker = fleet.broker()
    broker.roots[4] = fleet.repository.root_folder.proposal_path.read_bytes()
    assert reason(device, broker, fleet.now_ms) is Reason.METADATA_UNSIGNED

    fleet.repository.root_folder.discard()
    (stolen,) = [file for file in fleet.repository.keys.files() if file.role is KeyRole.ROOT]
    (keyid,) = [k for k in Rekeying(fleet.repository).keyids()[KeyRole.ROOT] if k.startswith(stolen.keyid)]
    stolen.path.unlink()
    assert not Rekeying(fleet.repository).revoke(KeyRole.ROOT, keyid, fleet.now)
    assert not sign_in_turn(fleet, bob)
    assert sign_in_turn(fleet, carol)

    assert keyid not in Rekeying(fleet.repository).keyids()[KeyRole.ROOT]
    assert follows(fleet, device)


def test_a_root_renewal_is_signed_by_two_and_pushes_go_on_until_then(
    fleet: Fleet, device: Device, holders: tuple[Holder, Holder]
) -> None:
    fleet.wait(days=400)
    assert follows(fleet, device)  # half of the root's life is over, and nobody has signed a new one
    assert KeyRole.ROOT in fleet.repository.overdue(fleet.now)

    assert not Rekeying(fleet.repository).renew_root(fleet.now)
    assert sign_in_turn(fleet, holders[0])

    assert KeyRole.ROOT not in fleet.repository.overdue(fleet.now)
    fleet.wait(days=500)
    assert follows(fleet, device)


def test_signatures_of_two_holders_who_signed_at_the_same_time_come_together(
    fleet: Fleet, device: Device, holders: tuple[Holder, Holder]
) -> None:
    (root_file,) = [file for file in fleet.repository.keys.files() if file.role is KeyRole.ROOT]
    root_file.path.unlink()
    assert not Rekeying(fleet.repository).rotate(KeyRole.TIMESTAMP, fleet.now)
    proposal = fleet.repository.root_folder.proposal_path.read_bytes()
    of_bob, of_carol = (holder.sign(proposal) for holder in holders)

    assert not Rekeying(fleet.repository).adopt(of_bob, "bob", fleet.now)
    assert Rekeying(fleet.repository).adopt(of_carol, "carol", fleet.now)

    assert follows(fleet, device)


def test_a_proposal_that_another_root_has_overtaken_is_a_conflict_and_loses_nothing(
    fleet: Fleet, device: Device, holders: tuple[Holder, Holder]
) -> None:
    Rekeying(fleet.repository).rotate(KeyRole.TARGETS, fleet.now)
    late = holders[0].sign(fleet.repository.root_folder.proposal_path.read_bytes())
    fleet.repository.root_folder.discard()
    Rekeying(fleet.repository).rotate(KeyRole.TIMESTAMP, fleet.now)
    assert sign_in_turn(fleet, holders[1])

    with pytest.raises(ConflictError, match="root 4 was proposed, and 4 is published by now"):
        Rekeying(fleet.repository).adopt(late, "late", fleet.now)

    assert follows(fleet, device)


def test_a_second_change_waits_until_the_first_is_signed_or_dropped(
    fleet: Fleet, holders: tuple[Holder, Holder]
) -> None:
    Rekeying(fleet.repository).rotate(KeyRole.TARGETS, fleet.now)

    with pytest.raises(UsageError, match="another change of the root keys waits"):
        Rekeying(fleet.repository).rotate(KeyRole.TIMESTAMP, fleet.now)

    fleet.repository.root_folder.discard()
    assert not Rekeying(fleet.repository).rotate(KeyRole.TIMESTAMP, fleet.now)


def test_an_altered_proposal_and_a_strangers_signature_do_not_count(
    fleet: Fleet, holders: tuple[Holder, Holder]
) -> None:
    Rekeying(fleet.repository).rotate(KeyRole.TARGETS, fleet.now)
    proposal = fleet.repository.root_folder.proposal_path.read_bytes()

    with pytest.raises(UsageError, match="is another root than the one that is proposed here"):
        Rekeying(fleet.repository).adopt(proposal.replace(b'"threshold":2', b'"threshold":1'), "altered", fleet.now)
    assert not Rekeying(fleet.repository).adopt(Holder().sign(proposal), "stranger", fleet.now)
    with pytest.raises(ConfigurationError, match="is not a root"):
        Rekeying(fleet.repository).adopt(b"[]", "garbage", fleet.now)


def test_too_few_keys_cannot_be_asked_for(fleet: Fleet, holders: tuple[Holder, Holder]) -> None:
    rekeying = Rekeying(fleet.repository)
    keyids = rekeying.keyids()

    with pytest.raises(UsageError, match="4 of the root keys would have to sign, and there would be 2"):
        rekeying.revoke(KeyRole.ROOT, keyids[KeyRole.ROOT][0], fleet.now, threshold=4)
    with pytest.raises(UsageError, match="replace it: edgeferry keys rotate timestamp"):
        rekeying.revoke(KeyRole.TIMESTAMP, keyids[KeyRole.TIMESTAMP][0], fleet.now)
    with pytest.raises(UsageError, match="the only key for documents"):
        rekeying.revoke(KeyRole.DOCUMENTS, keyids[KeyRole.DOCUMENTS][0], fleet.now)
    with pytest.raises(UsageError, match="signs for root already"):
        rekeying.add(KeyRole.ROOT, holders[0].signer.public_key, fleet.now)
    with pytest.raises(UsageError, match="each key for documents signs alone"):
        rekeying.add(KeyRole.DOCUMENTS, holders[0].signer.public_key, fleet.now, threshold=2)


def test_a_second_operator_signs_documents_with_a_key_of_his_own_until_it_is_revoked(
    fleet: Fleet, device: Device
) -> None:
    operator = Holder()
    rekeying = Rekeying(fleet.repository)
    (own,) = rekeying.keyids()[KeyRole.DOCUMENTS]
    assert rekeying.add(KeyRole.DOCUMENTS, operator.signer.public_key, fleet.now)
    assert follows(fleet, device)

    assert rekeying.revoke(KeyRole.DOCUMENTS, operator.signer.public_key.keyid, fleet.now)

    assert rekeying.keyids()[KeyRole.DOCUMENTS] == (own,)
    assert follows(fleet, device)


def test_an_origins_own_timestamp_key_is_revoked_and_what_it_signed_ends(fleet: Fleet, device: Device) -> None:
    origin = Holder()
    rekeying = Rekeying(fleet.repository)
    assert rekeying.add(KeyRole.TIMESTAMP, origin.signer.public_key, fleet.now)
    assert follows(fleet, device)

    assert rekeying.revoke(KeyRole.TIMESTAMP, origin.signer.public_key.keyid, fleet.now)

    assert len(rekeying.keyids()[KeyRole.TIMESTAMP]) == 1
    assert follows(fleet, device)


@pytest.mark.parametrize("role", list(KeyRole))
def test_devices_follow_the_rotation_of_each_role_without_being_touched(
    fleet: Fleet, device: Device, role: KeyRole
) -> None:
    fleet.rotate(role)

    assert follows(fleet, device)


def test_a_lost_timestamp_key_is_replaced_and_devices_follow(fleet: Fleet, device: Device) -> None:
    for file in fleet.repository.keys.files():
        if file.role is KeyRole.TIMESTAMP:
            file.path.unlink()
    with pytest.raises(ConfigurationError, match="0 of the fleet's timestamp keys are here"):
        fleet.push(2)

    fleet.rotate(KeyRole.TIMESTAMP)

    assert follows(fleet, device)


def test_a_device_that_was_off_for_three_months_follows_through_every_change_of_keys(
    fleet: Fleet, device: Device, tmp_path: Path
) -> None:
    kept = dict(device.files)
    for role in KeyRole:
        fleet.wait(days=18)
        fleet.rotate(role)
        fleet.push(max(fleet.repository.versions("digits")) + 1)

    device.files = kept
    device.boot()

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 6
    assert device.client.root_version == 5


def test_what_has_expired_is_renewed_and_devices_follow(fleet: Fleet, device: Device) -> None:
    fleet.wait(days=61)
    assert refused(device, fleet.broker(), fleet.now_ms).problem.reason is Reason.METADATA_EXPIRED

    assert fleet.repository.renew(fleet.now)

    assert device.follow(fleet.broker(), fleet.now_ms).resolved.wishes["digits"].version == 1


def test_pushes_go_on_while_keys_that_are_only_needed_to_renew_are_elsewhere(fleet: Fleet, device: Device) -> None:
    for file in fleet.repository.keys.files():
        if file.role in {KeyRole.ROOT, KeyRole.TARGETS}:
            file.path.unlink()
    fleet.wait(days=200)

    assert follows(fleet, device)
    assert set(fleet.repository.overdue(fleet.now)) == {KeyRole.TARGETS}


@pytest.mark.parametrize(
    "alter",
    [
        lambda value: [],
        lambda value: {**value, "keyid": "0" * 64},
        lambda value: {**value, "scheme": "rsa"},
        lambda value: {**value, "keyval": {"public": "zz"}},
        lambda value: {key: value[key] for key in ("keyid", "scheme")},
        lambda value: {**value, "keytype": "ecdsa"},
        lambda value: {**value, "keyval": {"public": "00"}},
    ],
)
def test_what_is_no_public_key_is_told(alter: Callable[[dict[str, object]], object]) -> None:
    value = json.loads(json.dumps(public_key_of(CryptoSigner.generate_ed25519().public_key)))
    assert parse_public_key(value, "x").keyid == value["keyid"]

    with pytest.raises(ConfigurationError, match=r"x: (is|the id)"):
        parse_public_key(alter(value), "x")


def test_two_of_three_by_the_commands(edgeferry: Run, fleet_dir: Path, passphrase_file: Path, tmp_path: Path) -> None:
    secret = ("--passphrase-file", str(passphrase_file))
    for name in ("bob", "carol"):
        must(edgeferry("keys", "new", str(tmp_path / name), *secret))
    must(edgeferry("keys", "add", "root", str(tmp_path / "bob.public.json")))
    waiting = edgeferry("keys", "add", "root", str(tmp_path / "carol.public.json"), "--threshold", "2", "--json")
    assert waiting.exit_code == 3
    assert waiting.json["approval"] == {"by_before": 1, "before_wants": 1, "by_own": 1, "own_wants": 2}
    assert "root 3 waits for signatures" in must(edgeferry("keys", "status")).stderr

    file = str(tmp_path / "root.json")
    must(edgeferry("keys", "export", file))
    assert edgeferry("keys", "export", file).exit_code == 2
    signed = must(edgeferry("keys", "sign", file, "--key", str(tmp_path / "carol.locked"), "--yes", *secret))
    assert "root: 2 of " in signed.stdout
    done = must(edgeferry("keys", "import", file, "--json"))
    assert "root 3 has enough signatures and is published already" in edgeferry("keys", "import", file).stderr

    assert done.json == {"published": True, "generation": 3, "root": 3, "proposal": None, "approval": None}
    places = [
        (key["role"], key["where"], key["has_to_sign"])
        for key in must(edgeferry("keys", "status", "--json")).json["keys"]
    ]
    assert places[:3] == [
        ("root", "here, open", "2 of 3"),
        ("root", "elsewhere", "2 of 3"),
        ("root", "elsewhere", "2 of 3"),
    ]
    assert Repository.open(fleet_dir).root().version == 3


def test_keys_are_replaced_revoked_and_renewed_by_the_commands(
    edgeferry: Run, fleet_dir: Path, passphrase_file: Path, tmp_path: Path
) -> None:
    must(edgeferry("keys", "new", str(tmp_path / "ci"), "--passphrase-file", str(passphrase_file)))
    again = edgeferry("keys", "new", str(tmp_path / "ci"), "--passphrase-file", str(passphrase_file))
    assert (again.exit_code, "a key is never overwritten" in again.stderr) == (2, True)
    must(edgeferry("keys", "add", "documents", str(tmp_path / "ci.public.json")))
    own, of_ci = Rekeying(Repository.open(fleet_dir)).keyids()[KeyRole.DOCUMENTS]

    unsaid = edgeferry("keys", "rotate", "documents")
    assert unsaid.exit_code == 2
    assert "documents has 2 keys; say which one with --key" in unsaid.stderr
    assert "documents has a new key" in must(edgeferry("keys", "rotate", "documents", "--key", own[:8])).stdout
    assert "is revoked" in must(edgeferry("keys", "revoke", of_ci[:8])).stdout

    (left,) = Rekeying(Repository.open(fleet_dir)).keyids()[KeyRole.DOCUMENTS]
    assert left not in {own, of_ci}
    before = Repository.open(fleet_dir).generation
    assert must(edgeferry("keys", "renew", "--json")).json["generation"] == before  # nothing is due yet


def test_a_status_of_what_has_expired_ends_with_1_and_says_what_to_do(
    edgeferry: Run, fleet_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_three_months = datetime.now(UTC) + timedelta(days=91)
    monkeypatch.setattr(keys_command, "now", lambda: in_three_months)

    expired = edgeferry("keys", "status")
    assert expired.exit_code == 1
    assert "timestamp metadata has expired on" in expired.stderr
    assert "renew it with `edgeferry keys renew`" in expired.stderr

    must(edgeferry("keys", "renew"))
    assert edgeferry("keys", "status").exit_code == 0


def test_the_beginning_of_an_id_has_to_name_one_key() -> None:
    keyids = {KeyRole.ROOT: ("aa1", "ab2"), KeyRole.TARGETS: ("cc3",)}

    assert role_of_key(keyids, "cc") == (KeyRole.TARGETS, "cc3")
    for beginning in ("a", "", "d"):
        with pytest.raises(UsageError, match="of this fleet has an id that begins with"):
            role_of_key(keyids, beginning)


def test_metadata_that_is_no_root_is_told(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match="is timestamp metadata, wanted a root"):
        parse_root(fleet.repository.timestamp(), "file")


def test_one_of_several_keys_is_replaced_and_the_others_stay(fleet: Fleet) -> None:
    other = CryptoSigner.generate_ed25519().public_key
    new = CryptoSigner.generate_ed25519().public_key
    root = with_added_key(fleet.repository.root(), KeyRole.TIMESTAMP, other)
    (own, _) = root.roles[KeyRole.TIMESTAMP].keyids

    replaced = with_key(root, KeyRole.TIMESTAMP, new, own)

    assert replaced.roles[KeyRole.TIMESTAMP].keyids == [other.keyid, new.keyid]


def test_a_key_that_is_not_named_or_does_not_exist_is_told(edgeferry: Run) -> None:
    unknown = edgeferry("keys", "revoke", "zz")
    assert unknown.exit_code == 2
    assert "no key of this fleet has an id that begins with 'zz'; there are" in unknown.stderr
    assert edgeferry("keys", "export", "/nonexistent/file").exit_code == 1
    assert "nothing was waiting" in must(edgeferry("keys", "discard")).stdout


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "passphrase",
        "renew",
        "rotate",
        "add",
        "revoke",
        "new",
        "export",
        "sign",
        "import",
        "discard",
        "backup",
        "restore",
    ],
)
def test_every_command_explains_itself_with_an_example(run_edgeferry: Run, command: str) -> None:
    done = run_edgeferry("keys", command, "--help")

    assert done.exit_code == 0
    assert f"edgeferry keys {command}" in done.stdout.partition("Example:")[2]
    assert "--json" in done.stdout
