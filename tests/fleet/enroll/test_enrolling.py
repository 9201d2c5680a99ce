"""What an enrolment does over ssh, step by step; the whole of it is shown on real machines in tests/machines."""

from pathlib import Path

import pytest
from tests.fleet.conftest import Run
from tests.fleet.enroll.test_hardware import PI_4

from edgeferry.fleet.bundle.making import Bundle
from edgeferry.fleet.enroll import enrolling
from edgeferry.fleet.enroll.enrolling import Asked
from edgeferry.fleet.enroll.hardware import parse_probe
from edgeferry.fleet.enroll.ssh import Ssh, SshError
from edgeferry.fleet.errors import ConfigurationError, UsageError
from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.session import Session, profile_named
from edgeferry.fleet.settings import Passwords
from edgeferry.wire.joining import parse_token


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "install.sh").write_text("#!/bin/sh\n")
    for number in range(3):
        (folder / "wheels" / f"{number}.whl").write_bytes(bytes([number]) * 300_000)
    return Bundle(folder, "aarch64", ("3.11",), 900_010)


@pytest.fixture
def session(run_edgeferry: Run, fleet_dir: Path) -> Session:
    assert run_edgeferry("init", "--broker", "mqtts://broker.local:8884").exit_code == 0
    return Session(fleet_dir, None, as_json=False)


def arrived(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_only_what_differs_is_copied_and_what_is_left_over_is_removed(device: Path, bundle: Bundle) -> None:
    place = device / "home" / "some where"
    (place / "wheels").mkdir(parents=True)
    (place / "wheels" / "old.whl").touch()
    said: list[str] = []
    with Ssh("pi@pi") as ssh:
        enrolling._copy(ssh, bundle, str(place), said.append, lambda *_: None)
        (place / "wheels" / "1.whl").write_bytes(b"damaged")

        enrolling._copy(ssh, bundle, str(place), said.append, lambda *_: None)
        enrolling._copy(ssh, bundle, str(place), said.append, lambda *_: None)

    assert arrived(place) == arrived(bundle.path)
    assert said == ["copying 4 of 4 files, 0.9 MB", "copying 1 of 4 files, 0.3 MB"]


def test_a_copy_that_is_cut_goes_on_with_what_has_not_arrived(device: Path, bundle: Bundle) -> None:
    place = device / "home" / "bundle"
    said: list[str] = []
    with Ssh("pi@pi") as ssh:
        (device / "cut_after").write_text("700000")
        with pytest.raises(SshError, match="Broken pipe; try `ssh pi@pi` yourself"):
            enrolling._copy(ssh, bundle, str(place), said.append, lambda *_: None)

        (device / "cut_after").unlink()
        enrolling._copy(ssh, bundle, str(place), said.append, lambda *_: None)

    assert arrived(place) == arrived(bundle.path)
    assert said[-1] == "copying 1 of 4 files, 0.3 MB"


def test_progress_ends_where_everything_has_been_sent(device: Path, bundle: Bundle) -> None:
    seen: list[tuple[int, int]] = []
    with Ssh("pi@pi") as ssh:
        enrolling._copy(ssh, bundle, str(device / "home" / "b"), lambda _: None, lambda *figures: seen.append(figures))

    assert seen[-1] == (900_010, 900_010)
    assert seen == sorted(seen)


def test_a_device_that_cannot_be_reached_is_told_in_ssh_own_words(device: Path) -> None:
    (device / "unplugged").touch()

    with Ssh("pi@pi") as ssh, pytest.raises(SshError, match=r"pi@pi cannot be reached over ssh: .*No route to host"):
        ssh.script("true")


def test_a_script_that_fails_is_told_with_its_last_words(device: Path) -> None:
    with Ssh("pi@pi") as ssh, pytest.raises(SshError, match="ended with 3: no room"):
        ssh.script("echo no room >&2; exit 3")


@pytest.mark.parametrize("target", ["", "-oProxyCommand=evil", "two words"])
def test_what_is_no_target_never_gets_to_ssh(target: str) -> None:
    with pytest.raises(UsageError, match="is no USER@HOST"):
        Ssh(target)


def test_the_token_is_readable_by_its_user_alone_and_gone_afterwards(device: Path) -> None:
    place = device / "home" / "bundle"
    place.mkdir()
    (place / "install.sh").write_text('stat -c %a "$2" > "$HOME/mode"; cat "$2" > "$HOME/seen"\n')
    found = parse_probe(PI_4.replace("sudo=free", "sudo=root"))

    with Ssh("pi@pi") as ssh:
        enrolling._install(ssh, str(place), "ef1.secret.0", found)

    assert (device / "home" / "mode").read_text() == "600\n"
    assert (device / "home" / "seen").read_text() == "ef1.secret.0"
    assert [path.name for path in place.iterdir()] == ["install.sh"]


def test_an_installation_that_fails_is_told_and_leaves_no_token(device: Path) -> None:
    place = device / "home" / "bundle"
    place.mkdir()
    (place / "install.sh").write_text("exit 78\n")
    found = parse_probe(PI_4.replace("sudo=free", "sudo=root"))

    with Ssh("pi@pi") as ssh, pytest.raises(Exception, match="ended with 78"):
        enrolling._install(ssh, str(place), "ef1.secret.0", found)

    assert [path.name for path in place.iterdir()] == ["install.sh"]


def test_a_device_keeps_its_password_when_it_is_enrolled_again(session: Session) -> None:
    found, profile = parse_probe(PI_4), profile_named("raspberry-pi-4")
    tokens = []

    for _ in range(2):
        member = enrolling._member(session, session.repository(), found, Asked(groups=("home",)), profile)
        tokens.append(parse_token(enrolling._token(session, session.repository(), member, lambda _: None)))

    assert tokens[0] == tokens[1]
    assert (tokens[0].id, tokens[0].profile, tokens[0].groups) == ("pi", "raspberry-pi-4", ("home",))
    assert Passwords(session.fleet_dir).of("pi") == tokens[0].password


def test_a_second_machine_of_the_same_name_is_refused_unless_it_is_asked_for(session: Session) -> None:
    profile = profile_named("raspberry-pi-4")
    enrolling._member(session, session.repository(), parse_probe(PI_4), Asked(), profile)
    other = parse_probe(PI_4.replace("machine_id=0123", "machine_id=9999"))

    with pytest.raises(UsageError, match="calls itself 'pi', and another device of the fleet has that id"):
        enrolling._member(session, session.repository(), other, Asked(), profile)

    enrolling._member(session, session.repository(), other, Asked(device="pi"), profile)
    enrolling._member(session, session.repository(), other, Asked(device="pi-2"), profile)
    assert set(Inventory.load(session.fleet_dir).devices) == {"pi", "pi-2"}


def test_a_profile_is_changed_only_by_name(session: Session) -> None:
    found = parse_probe(PI_4)
    enrolling._member(
        session, session.repository(), found, Asked(profile="raspberry-pi-3"), profile_named("raspberry-pi-3")
    )

    kept = enrolling._member(session, session.repository(), found, Asked(), profile_named("raspberry-pi-4"))
    changed = enrolling._member(
        session, session.repository(), found, Asked(profile="raspberry-pi-4"), profile_named("raspberry-pi-4")
    )

    assert (kept.profile, changed.profile) == ("raspberry-pi-3", "raspberry-pi-4")


def test_a_broker_on_the_workstation_itself_is_not_handed_out(run_edgeferry: Run, fleet_dir: Path) -> None:
    assert run_edgeferry("init").exit_code == 0
    session = Session(fleet_dir, None, as_json=False)

    with pytest.raises(
        ConfigurationError, match=r"127\.0\.0\.1, which means itself on any device; run `edgeferry broker"
    ):
        enrolling._check_brokers(session, "pi@kitchen.local")

    enrolling._check_brokers(session, "pi@127.0.0.1")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("systemd=yes", "", "systemd does not run"),
        ("sudo=free", "sudo=none", "may not become root"),
        ("free_kib=20000000", "free_kib=20000", "19 MiB of room, wanted 300"),
    ],
)
def test_a_machine_that_cannot_take_it_is_refused_before_anything_is_copied(before: str, after: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        enrolling._check_machine(parse_probe(PI_4.replace(before, after)))


def test_a_wrong_id_is_told_before_the_device_is_asked(run_edgeferry: Run) -> None:
    assert run_edgeferry("init").exit_code == 0

    done = run_edgeferry("enroll", "pi@kitchen.local", "--id", "a/b")

    assert done.exit_code == 2
    assert "a/b" in done.stderr
