"""Keys are locked with a passphrase, which comes from a file, a program or a person, and is never shown."""

import os
import pty
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from tests.fleet.conftest import Run
from tests.fleet.keys.conftest import PASSPHRASE, must

from edgeferry.fleet.errors import ConfigurationError
from edgeferry.fleet.keys import KeyFolder, KeyRole
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.repository import Repository

NEW_DEVICE = ("token", "pi", "-p", "generic-x86-64")


def key_files(fleet_dir: Path) -> dict[str, str]:
    return {path.name.split("-")[0]: path.suffix for path in (fleet_dir / "keys").iterdir()}


def test_a_fleet_that_is_made_with_a_passphrase_has_its_deciding_keys_locked(locked: Run, fleet_dir: Path) -> None:
    assert key_files(fleet_dir) == {
        "root": ".locked",
        "targets": ".locked",
        "documents": ".locked",
        "snapshot": ".pem",
        "timestamp": ".pem",
    }
    for path in (fleet_dir / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (b"PRIVATE KEY" in path.read_bytes()) is (path.suffix == ".pem")


def test_signing_wants_the_passphrase_and_says_how_to_give_it(locked: Run, passphrase_file: Path) -> None:
    refused = locked(*NEW_DEVICE)

    assert refused.exit_code == 78
    assert re.search(r"documents-\w{16}\.locked is locked with a passphrase; give --passphrase-file", refused.stderr)
    must(locked(*NEW_DEVICE, "--passphrase-file", str(passphrase_file)))


def test_another_passphrase_changes_nothing(locked: Run, fleet_dir: Path) -> None:
    before = key_files(fleet_dir)

    done = locked("keys", "rotate", "timestamp", "--passphrase-file", "-", stdin="incorrect horse\n")

    assert done.exit_code == 78
    assert "does not open: the passphrase is another one" in done.stderr
    assert key_files(fleet_dir) == before
    assert len(list((fleet_dir / "keys").iterdir())) == 5


def test_an_origin_renews_snapshot_and_timestamp_without_the_passphrase(locked: Run, fleet_dir: Path) -> None:
    repository = Repository.open(fleet_dir)
    in_half_a_year = datetime.now(UTC).replace(microsecond=0) + timedelta(days=200)
    before = repository.expiries()

    assert repository.renew(in_half_a_year, lifetime=timedelta(days=7))

    after = repository.expiries()
    for role in (KeyRole.SNAPSHOT, KeyRole.TIMESTAMP):
        assert after[role] == in_half_a_year + timedelta(days=7)
    for role in (KeyRole.ROOT, KeyRole.TARGETS, KeyRole.DOCUMENTS):  # half of their lives is over, and that can wait
        assert after[role] == before[role]
    assert set(repository.overdue(in_half_a_year)) == {KeyRole.TARGETS, KeyRole.DOCUMENTS}


def test_what_was_left_is_renewed_with_the_passphrase(locked: Run, fleet_dir: Path, passphrase_file: Path) -> None:
    in_half_a_year = datetime.now(UTC).replace(microsecond=0) + timedelta(days=200)
    Repository.open(fleet_dir).renew(in_half_a_year)
    repository = Repository.open(fleet_dir, passphrase=Passphrase(passphrase_file))

    assert repository.renew(in_half_a_year, asks=True)

    assert repository.overdue(in_half_a_year) == {}


def test_what_has_expired_is_not_left_but_told(locked: Run, fleet_dir: Path) -> None:
    repository = Repository.open(fleet_dir)

    with pytest.raises(ConfigurationError, match="is locked with a passphrase"):
        repository.renew(datetime.now(UTC) + timedelta(days=366))


def test_keys_of_a_fleet_from_before_go_on_working_and_can_be_locked(
    edgeferry: Run, fleet_dir: Path, passphrase_file: Path
) -> None:
    must(edgeferry(*NEW_DEVICE))
    told = must(edgeferry("keys", "status"))
    assert "documents, root, targets lie open" in told.stderr
    assert "edgeferry keys passphrase" in told.stderr

    must(edgeferry("keys", "passphrase", "--new-passphrase-file", str(passphrase_file)))

    assert set(key_files(fleet_dir).values()) == {".locked", ".pem"}
    assert "lie open" not in must(edgeferry("keys", "status")).stderr
    assert edgeferry("token", "pi", "--renew").exit_code == 78
    must(edgeferry("token", "pi", "--renew", "--passphrase-file", str(passphrase_file)))


def test_a_passphrase_can_be_changed_and_removed(locked: Run, passphrase_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("another passphrase")
    old_and_new = ("--passphrase-file", str(passphrase_file), "--new-passphrase-file", str(other))

    must(locked("keys", "passphrase", *old_and_new))
    assert locked("keys", "rotate", "targets", "--passphrase-file", str(passphrase_file)).exit_code == 78

    must(locked("keys", "passphrase", "--remove", "--passphrase-file", str(other)))
    must(locked("keys", "rotate", "targets"))


def test_a_program_can_give_the_passphrase(locked: Run, fleet_dir: Path, passphrase_file: Path) -> None:
    path = fleet_dir / "fleet.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "passphrase_command": ["cat", str(passphrase_file)]}))
    must(locked(*NEW_DEVICE))

    path.write_text(yaml.safe_dump({**settings, "passphrase_command": ["false"]}))
    done = locked("token", "pi", "--renew")

    assert done.exit_code == 78
    assert "passphrase_command 'false' ended with 1" in done.stderr


def test_a_person_at_a_terminal_is_asked_and_what_is_typed_is_not_shown(locked: Run, fleet_dir: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "EDGEFERRY_FLEET": str(fleet_dir), "EDGEFERRY_BROKER": ""}
    command = [sys.executable, "-m", "edgeferry.fleet", "keys", "rotate", "timestamp"]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        said = os.read(ours, 4096).decode()
        while "Passphrase" not in said:
            said += os.read(ours, 4096).decode()
        seen_by_others = b"".join(Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
        os.write(ours, PASSPHRASE.encode() + b"\n")
        try:
            while data := os.read(ours, 4096):
                said += data.decode()
        except OSError:  # Linux tells the end of the other side so
            pass
        assert process.wait(30) == 0, said
    os.close(ours)
    assert "timestamp has a new key" in said
    assert PASSPHRASE not in said
    assert PASSPHRASE.encode() not in seen_by_others


@pytest.mark.parametrize(
    ("content", "mode", "sentence"),
    [
        ("correct horse battery", 0o644, "other users may read this passphrase (mode 0644)"),
        ("", 0o600, "wanted one line with the passphrase"),
        ("one\ntwo", 0o600, "wanted one line with the passphrase"),
        ("\N{BELL}\0", 0o600, "wanted one line with the passphrase"),
        ("short", 0o600, "the passphrase is too short"),
    ],
)
def test_a_passphrase_file_that_cannot_be_one_is_told(
    edgeferry: Run, tmp_path: Path, content: str, mode: int, sentence: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    path.chmod(mode)

    done = edgeferry("keys", "passphrase", "--new-passphrase-file", str(path))

    assert done.exit_code == 78
    assert sentence in done.stderr


def test_without_a_passphrase_nothing_is_locked(edgeferry: Run, fleet_dir: Path) -> None:
    done = edgeferry("keys", "passphrase")

    assert done.exit_code == 2
    assert "a passphrase is wanted" in done.stderr
    assert set(key_files(fleet_dir).values()) == {".pem"}


def test_a_key_whose_locking_was_interrupted_can_be_used_and_locked(tmp_path: Path, passphrase_file: Path) -> None:
    keys = KeyFolder(tmp_path / "keys", Passphrase(passphrase_file))
    (tmp_path / "keys").mkdir()
    keyid = keys.create(KeyRole.ROOT).public_key.keyid
    (locked,) = keys.files()
    KeyFolder(tmp_path / "keys", Passphrase(passphrase_file)).unlock()
    (opened,) = keys.files()
    locked.path.write_bytes(b"half writ")  # beside the open one, as a crash may leave it

    (signer,) = KeyFolder(tmp_path / "keys").signers(KeyRole.ROOT, [keyid])
    keys.lock(PASSPHRASE.encode())

    assert signer.public_key.keyid == keyid
    assert not opened.path.exists()
    assert [file.is_locked for file in keys.files()] == [True]


def test_a_new_key_is_locked_with_the_passphrase_of_the_others(locked: Run, fleet_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("another passphrase")

    with pytest.raises(ConfigurationError, match="does not open"):
        KeyFolder(fleet_dir / "keys", Passphrase(other)).create(KeyRole.ROOT)
