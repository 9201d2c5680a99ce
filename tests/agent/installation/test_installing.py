"""An agent is installed, upgraded, rolled back and removed; what was interrupted goes on."""

import os
import stat
import threading
from pathlib import Path

import pytest
import yaml

from edgeferry.agent.errors import ConfigError
from edgeferry.agent.installation.environment import is_complete
from edgeferry.agent.installation.installing import Wanted, install, uninstall
from edgeferry.agent.installation.places import COMPLETE, UNIT
from edgeferry.agent.installation.service import Service, unit_text
from edgeferry.agent.installation.steps import InstallationError, held
from tests.agent.installation.conftest import Token
from tests.agent.installation.machine import Machine

ROOT = Path(__file__).parents[3]


def put(
    machine: Machine, environment: Path, token: str = "", *, http: str = "127.0.0.1:8501", force: bool = False
) -> None:
    install(Wanted(environment, token, http, force), machine.places, machine.service)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def test_a_new_device_gets_configuration_unit_and_command_and_runs(machine: Machine, token: Token) -> None:
    put(machine, machine.environment("1"), token())

    config = yaml.safe_load(machine.places.config.read_text())
    assert machine.running == "1"
    assert (config["id"], config["listen"]["http"]) == ("pi", "127.0.0.1:8501")
    assert machine.places.unit.read_bytes() == unit_text()
    assert machine.places.command.readlink() == machine.places.current / "bin" / "edgeferry-agent"
    assert "systemctl enable --quiet edgeferry-agent.service" in machine.calls


def test_the_unit_that_is_installed_is_the_one_in_systemd() -> None:
    assert unit_text() == (ROOT / "systemd" / "edgeferry-agent.service").read_bytes()


def test_credentials_are_the_agents_alone_and_the_configuration_can_be_read(machine: Machine, token: Token) -> None:
    os.umask(0o077)
    try:
        put(machine, machine.environment("1"), token())
    finally:
        os.umask(0o022)

    places = machine.places
    modes = {
        path: stat.S_IMODE(path.stat().st_mode) for path in (places.state_dir, places.config, places.config.parent)
    }
    assert modes == {places.state_dir: 0o700, places.config: 0o644, places.config.parent: 0o755}
    for path in (places.state_dir / "identity").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in places.config.read_text()


def test_run_again_it_changes_nothing_and_restarts_nothing(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    put(machine, environment, token())
    before = contents(machine.root / "etc") | contents(machine.root / "var")

    put(machine, environment, token())
    put(machine, environment)

    assert contents(machine.root / "etc") | contents(machine.root / "var") == before
    assert machine.restarts == 1


def test_a_device_without_a_token_is_told_to_bring_one(machine: Machine) -> None:
    with pytest.raises(ConfigError, match="has not joined a fleet yet; give its token with --token-file"):
        put(machine, machine.environment("1"))


def test_a_renewed_password_is_taken_and_the_agent_started_anew(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    put(machine, environment, token())

    put(machine, environment, token(password="new"))

    assert (machine.places.state_dir / "identity" / "password").read_text() == "new\n"
    assert machine.restarts == 2


def test_what_a_person_wrote_into_the_configuration_stays(
    machine: Machine, token: Token, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = machine.environment("1")
    put(machine, environment, token())
    edited = machine.places.config.read_text() + "telemetry_interval_s: 60\n"
    machine.places.config.write_text(edited)

    put(machine, environment, token(brokers=("mqtts://other.local:8883",)))

    assert machine.places.config.read_text() == edited
    assert "the token says something else of broker (--force takes that)" in capsys.readouterr().err


def test_force_takes_the_token_at_its_word(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    put(machine, environment, token())

    put(machine, environment, token(id="other"), force=True)

    assert yaml.safe_load(machine.places.config.read_text())["id"] == "other"


def test_the_token_of_another_device_is_refused(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    put(machine, environment, token())
    before = contents(machine.root / "var")

    with pytest.raises(ConfigError, match="is of device 'pi', and the token of 'other'"):
        put(machine, environment, token(id="other", password="of the other"))

    assert contents(machine.root / "var") == before


def test_a_cut_token_changes_nothing(machine: Machine, token: Token) -> None:
    with pytest.raises(ConfigError, match="token: its checksum differs"):
        put(machine, machine.environment("1"), token()[:-8] + "00000000")

    assert not machine.places.config.exists()


def test_an_upgrade_runs_the_new_one_and_keeps_the_old_one(machine: Machine, token: Token) -> None:
    put(machine, machine.environment("1"), token())

    put(machine, machine.environment("2"))

    assert machine.running == "2"
    assert machine.places.previous.readlink().name == "1"
    assert machine.environments() == {"1", "2"}


def test_only_the_last_two_are_kept(machine: Machine, token: Token) -> None:
    for name in ("1", "2", "3"):
        put(machine, machine.environment(name), token())

    assert machine.environments() == {"2", "3"}


def test_a_new_one_that_does_not_come_up_is_rolled_back(machine: Machine, token: Token) -> None:
    put(machine, machine.environment("1"), token())
    old_unit = b"[Service]\nExecStart=/the/old/one\n"
    brought = machine.places.versions / "1/lib/python3.11/site-packages/edgeferry/agent/installation"
    brought.mkdir(parents=True)
    (brought / UNIT).write_bytes(old_unit)

    with pytest.raises(InstallationError, match=r"profil is not a known key; 1 runs again"):
        put(machine, machine.environment("2", broken=True))

    assert machine.running == "1"
    assert machine.places.current.readlink().name == "1"
    assert machine.places.unit.read_bytes() == old_unit
    assert machine.environments() == {"1"}


def test_a_new_one_that_ends_soon_after_its_start_is_rolled_back(machine: Machine, token: Token) -> None:
    put(machine, machine.environment("1"), token())
    (machine.root / "flapping").touch()

    with pytest.raises(InstallationError, match="the new agent did not come up"):
        put(machine, machine.environment("2"))

    assert machine.places.current.readlink().name == "1"


def test_a_first_one_that_does_not_come_up_says_why_and_can_be_mended(machine: Machine, token: Token) -> None:
    environment = machine.environment("1", broken=True)
    with pytest.raises(InstallationError, match=r"the agent does not come up: agent\.yaml: profil is not a known key"):
        put(machine, environment, token())
    assert machine.places.command.is_symlink()  # the doctor is what may help now

    (environment / "broken").unlink()
    put(machine, environment, token())

    assert machine.running == "1"


def test_an_environment_that_is_not_complete_is_never_run(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    (environment / COMPLETE).unlink()

    with pytest.raises(ConfigError, match="is not complete"):
        put(machine, environment, token())

    assert machine.restarts == 0


def test_a_second_installation_waits_for_the_first(machine: Machine, token: Token) -> None:
    environment = machine.environment("1")
    with held(machine.places.lock):
        second = threading.Thread(target=put, args=(machine, environment, token()))
        second.start()
        assert machine.running == ""

    second.join(30)

    assert machine.running == "1"


def test_it_does_not_wait_for_ever(machine: Machine) -> None:
    with held(machine.places.lock), pytest.raises(ConfigError, match="another installation is at work"):  # noqa: SIM117
        with held(machine.places.lock, patience_s=0):
            pass


def test_interrupted_before_the_restart_the_new_one_is_started_and_the_old_one_still_known(
    machine: Machine, token: Token
) -> None:
    put(machine, machine.environment("1"), token())
    systemctl = machine.root / "commands" / "systemctl"
    whole = systemctl.read_text()
    systemctl.write_text(whole.replace("case ", '[ "$1" = enable ] && kill -9 $$\ncase ', 1))
    new = machine.environment("2", broken=True)
    with pytest.raises(InstallationError):
        put(machine, new)
    assert (machine.running, machine.places.current.readlink().name) == ("1", "2")

    systemctl.write_text(whole)
    with pytest.raises(InstallationError, match="1 runs again"):
        put(machine, new)

    assert machine.running == "1"
    assert machine.restarts == 3
    assert not machine.places.pending.exists()


@pytest.mark.parametrize("failing", ["daemon-reload", "enable"])
def test_interrupted_anywhere_the_same_command_goes_on(machine: Machine, token: Token, failing: str) -> None:
    environment = machine.environment("1")
    systemctl = machine.root / "commands" / "systemctl"
    whole = systemctl.read_text()
    systemctl.write_text(whole.replace("case ", f'[ "$1" = {failing} ] && {{ echo no bus >&2; exit 1; }}\ncase ', 1))
    with pytest.raises(InstallationError, match="no bus"):
        put(machine, environment, token())

    systemctl.write_text(whole)
    put(machine, environment, token())

    assert machine.running == "1"


def test_uninstalled_the_state_stays_and_purged_nothing_does(machine: Machine, token: Token) -> None:
    put(machine, machine.environment("1"), token())
    places = machine.places

    uninstall(places, machine.service, purge=False)

    assert machine.running == ""
    assert places.config.exists()
    assert (places.state_dir / "identity" / "password").exists()
    assert not any(path.exists() or path.is_symlink() for path in (places.program, places.command, places.unit))

    (places.program / "versions").mkdir(parents=True)
    uninstall(places, machine.service, purge=True)

    left = {path for path in machine.root.rglob("*") if path.is_file() or path.is_symlink()}
    assert {path.relative_to(machine.root).parts[0] for path in left} == {"commands", "calls"}
    assert not places.state_dir.exists()
    assert not places.config.parent.exists()


def test_without_systemd_nothing_is_begun(machine: Machine, token: Token) -> None:
    (machine.root / "commands" / "systemctl").write_text("#!/bin/sh\nexit 1\n")

    with pytest.raises(ConfigError, match="systemd does not run here"):
        put(machine, machine.environment("1"), token())

    assert not machine.places.config.exists()


def test_a_command_that_is_missing_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(machine.root))

    with pytest.raises(InstallationError, match="systemctl is not here; install it"):
        Service().check()


def test_a_link_that_leads_nowhere_is_no_environment_to_go_back_to(machine: Machine, token: Token) -> None:
    machine.places.program.mkdir(parents=True)
    machine.places.current.symlink_to(machine.places.versions / "gone")

    with pytest.raises(InstallationError, match="the agent does not come up"):
        put(machine, machine.environment("2", broken=True), token())

    assert is_complete(machine.places.versions / "2")
