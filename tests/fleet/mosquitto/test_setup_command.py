"""`edgeferry broker setup` makes a folder for mosquitto, and leaves what is right when it is run again."""

import datetime as dt
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from tests.fleet.conftest import Run

from edgeferry.fleet.inventory import Inventory
from edgeferry.fleet.mosquitto.certificates import Authority, KeyPair, names_of
from edgeferry.fleet.mosquitto.configuration import access_rules_of_devices
from edgeferry.fleet.mosquitto.folder import MosquittoFolder
from edgeferry.fleet.settings import Passwords, load_settings


@pytest.fixture
def edgeferry(run_edgeferry: Run, fleet_dir: Path) -> Run:
    """Return `edgeferry` on a fleet with the device ``pi-1``."""
    assert run_edgeferry("init", "--operator", "ada").exit_code == 0
    Inventory.load(fleet_dir).add("pi-1", "generic-x86-64")
    Passwords(fleet_dir).make("pi-1")
    return run_edgeferry


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_fleet_uses_the_broker_from_then_on(edgeferry: Run, fleet_dir: Path) -> None:
    done = edgeferry("broker", "setup", "--host", "broker.local", "--host", "192.168.1.10", "--json")

    settings = load_settings(fleet_dir)
    assert done.exit_code == 0, done.stderr
    assert settings.broker == done.json["broker"] == "mqtts://broker.local:8884"
    assert settings.device_brokers == ("mqtts://broker.local:8883", "mqtts://192.168.1.10:8883")


def test_run_again_it_changes_nothing_and_keeps_what_was_asked_for(edgeferry: Run, fleet_dir: Path) -> None:
    asked = ("--host", "broker.local", "--monitor", "grafana", "--max-devices", "50")
    assert edgeferry("broker", "setup", *asked).exit_code == 0
    before = contents(fleet_dir)

    assert edgeferry("broker", "setup").exit_code == 0

    assert contents(fleet_dir) == before
    assert "max_connections 50\n" in before["mosquitto/mosquitto.conf"].decode()
    assert "user grafana\n" in before["mosquitto/people.acl"].decode()


def test_another_name_gets_another_certificate_of_the_same_authority(edgeferry: Run, fleet_dir: Path) -> None:
    assert edgeferry("broker", "setup", "--host", "old.local").exit_code == 0
    authority = Passwords(fleet_dir).ca_pem()

    assert edgeferry("broker", "setup", "--host", "new.local").exit_code == 0

    assert names_of((fleet_dir / "mosquitto" / "server.pem").read_bytes()) == ("new.local", "localhost", "127.0.0.1")
    assert Passwords(fleet_dir).ca_pem() == authority


def test_every_private_key_and_password_is_the_owners_alone(edgeferry: Run, fleet_dir: Path) -> None:
    assert edgeferry("broker", "setup").exit_code == 0

    secret = ["secrets/authority.key", "mosquitto/server.key", "mosquitto/users/devices", "mosquitto/users/people"]

    assert {name: stat.S_IMODE((fleet_dir / name).stat().st_mode) for name in secret} == dict.fromkeys(secret, 0o600)


def test_devices_and_people_are_in_files_of_their_own_and_no_password_is_in_clear(
    edgeferry: Run, fleet_dir: Path
) -> None:
    assert edgeferry("broker", "setup", "--application", "camera").exit_code == 0
    found = contents(fleet_dir / "mosquitto")

    users = {
        kind: [line.split(":")[0] for line in found[f"users/{kind}"].decode().splitlines()]
        for kind in ("devices", "people")
    }

    assert users == {"devices": ["pi-1"], "people": ["ada", "camera"]}
    for password in Passwords(fleet_dir).load().values():
        assert not any(password.encode() in data for data in found.values())


def test_a_new_device_is_in_the_broker_files_at_once(edgeferry: Run, fleet_dir: Path) -> None:
    assert edgeferry("broker", "setup", "--host", "127.0.0.1").exit_code == 0
    before = (fleet_dir / "mosquitto" / "users" / "devices").read_text()

    done = edgeferry("token", "pi-2", "-p", "generic-x86-64")

    after = (fleet_dir / "mosquitto" / "users" / "devices").read_text()
    assert done.exit_code == 0
    assert before in after
    assert "pi-2:$7$" in after
    assert "run its install.sh there, so that pi-2 is let in" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "no name"), "--host 'no name' is neither a name nor an address"),
        (("--bind", "localhost"), "--bind 'localhost' is no address"),
        (("--monitor", "a/b"), "user"),
        (("--application", "pi-1"), "'pi-1' is a device of this fleet"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    edgeferry: Run, fleet_dir: Path, options: tuple[str, ...], said: str
) -> None:
    before = contents(fleet_dir)

    done = edgeferry("broker", "setup", *options)

    assert done.exit_code == 2
    assert said in done.stderr
    assert contents(fleet_dir) == before


def test_the_certificate_of_a_broker_that_is_there_already_is_not_replaced(edgeferry: Run, fleet_dir: Path) -> None:
    Passwords(fleet_dir).put_ca(Authority.create("another").pair.certificate_pem.decode())

    done = edgeferry("broker", "setup")

    assert done.exit_code == 78
    assert "trusts an authority whose key is not here" in done.stderr


def test_a_key_that_is_not_the_authoritys_is_told(edgeferry: Run, fleet_dir: Path) -> None:
    assert edgeferry("broker", "setup", "--host", "old.local").exit_code == 0
    (fleet_dir / "secrets" / "authority.key").write_bytes(Authority.create("another").pair.key_pem)

    done = edgeferry("broker", "setup", "--host", "new.local")

    assert done.exit_code == 78
    assert "do not belong together" in done.stderr


def test_a_damaged_setup_is_told(edgeferry: Run, fleet_dir: Path) -> None:
    assert edgeferry("broker", "setup").exit_code == 0
    (fleet_dir / "mosquitto" / "setup.json").write_text("{")

    done = edgeferry("broker", "setup")

    assert done.exit_code == 78
    assert "setup.json" in done.stderr


def test_no_clock_is_too_wrong_for_the_certificates() -> None:
    authority = Authority.create("edgeferry broker authority")
    server = authority.server(("broker.local", "192.168.1.10"))

    for pem in (authority.pair.certificate_pem, server.certificate_pem):
        certificate = x509.load_pem_x509_certificate(pem)
        assert certificate.not_valid_before_utc == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        assert certificate.not_valid_after_utc.year == 9999
    assert names_of(server.certificate_pem) == ("broker.local", "192.168.1.10")
    assert authority.has_signed(server.certificate_pem)
    assert not Authority.create("another").has_signed(server.certificate_pem)


def test_openssl_accepts_the_certificates_by_its_strictest_rules(tmp_path: Path) -> None:
    """Python 3.13 asks for them by default."""
    authority = Authority.create("edgeferry broker authority")
    (tmp_path / "ca.pem").write_bytes(authority.pair.certificate_pem)
    (tmp_path / "server.pem").write_bytes(authority.server(("broker.local",)).certificate_pem)

    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "server.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.strip() == "server.pem: OK", done.stderr


def test_what_is_no_authority_is_told() -> None:
    pair = Authority.create("one").pair

    with pytest.raises(Exception, match="cannot be read"):
        Authority(KeyPair(b"garbage", pair.key_pem))


def test_a_fleet_without_such_a_broker_lets_nobody_in_there(edgeferry: Run, fleet_dir: Path) -> None:
    assert not MosquittoFolder(fleet_dir).let_in(["pi-1"])
    assert not MosquittoFolder(fleet_dir).path.exists()


def test_the_protocol_has_the_access_rules_of_devices_word_for_word() -> None:
    document = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()

    assert f"```text\n{access_rules_of_devices('edgeferry/v1')}```" in document
