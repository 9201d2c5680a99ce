"""`fleet.yaml`, broker URLs and passwords."""

from pathlib import Path

import pytest

from edgeferry.fleet.settings import (
    BrokerUrl,
    FleetSettings,
    Passwords,
    SettingsError,
    default_fleet_dir,
    load_settings,
    parse_broker_url,
    save_settings,
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://pi", BrokerUrl("mqtt", "pi", 1883)),
        ("mqtts://broker.example.org", BrokerUrl("mqtts", "broker.example.org", 8883)),
        ("mqtts://[::1]:9000/", BrokerUrl("mqtts", "::1", 9000)),
    ],
)
def test_a_url_names_a_broker(text: str, url: BrokerUrl) -> None:
    assert parse_broker_url(text) == url
    assert parse_broker_url(str(url)) == url


@pytest.mark.parametrize(
    "text", ["", "pi", "http://pi", "mqtt://", "mqtt://pi:x", "mqtt://pi:99999", "mqtt://pi/path", "mqtt://pi?x=1"]
)
def test_what_is_no_url_of_a_broker_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(SettingsError, match=r"wanted mqtt://HOST\[:PORT\]"):
        parse_broker_url(text)


@pytest.mark.parametrize("text", ["mqtt://me:secret@pi", "mqtt://me:secret@pi:x", "mqtt://me@pi"])
def test_a_password_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse_broker_url(text)

    assert "secret" not in str(raised.value).replace("secrets/passwords.json", "")


def test_settings_come_back_as_they_were_saved(tmp_path: Path) -> None:
    settings = FleetSettings("mqtts://b:1", "me", "site/a", ("mqtt://192.0.2.1:1883",))

    save_settings(tmp_path, settings)

    assert load_settings(tmp_path) == settings
    assert settings.topics.root == "site/a"


def test_a_broker_on_the_command_line_weighs_more_than_the_file() -> None:
    assert FleetSettings().with_broker("mqtt://other").broker == "mqtt://other:1883"
    assert FleetSettings().with_broker(None) == FleetSettings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("brokr: mqtt://pi", 'brokr is not a known key; did you mean "broker"'),
        ("colour: red", "colour is not a known key; wanted one of broker, operator"),
        ("operator: [a]", "fleet.yaml: Expected"),
        ("operator: a b", "operator 'a b'"),
        ("topic_root: '#'", "topic root"),
        ("broker: pi", "wanted mqtt://"),
        ("device_brokers: [pi]", "wanted mqtt://"),
        ("- a", "holds list, wanted keys and values"),
        ("broker: mqtt://pi\na: [", "fleet.yaml:2: is not YAML: "),
        ("broker: mqtt://pi\na: b: c", "fleet.yaml:2: is not YAML: mapping values are not allowed here; correct"),
        ("broker: mqtt://pi\na: \1", "fleet.yaml:2: is not YAML: special characters are not allowed; correct"),
        ("", "is empty, wanted keys and values: write for example `broker: mqtt://HOST:1883`"),
        ("# nothing", "is empty"),
    ],
)
def test_a_wrong_setting_is_told_with_its_file(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "fleet.yaml").write_text(text)

    with pytest.raises(SettingsError) as raised:
        load_settings(tmp_path)

    assert sentence in str(raised.value)
    assert str(tmp_path / "fleet.yaml") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 78


def test_a_folder_without_a_fleet_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no fleet here.*edgeferry init.*EDGEFERRY_FLEET"):
        load_settings(tmp_path)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_bytes(b"\xff\xfe")

    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path)


def test_the_fleet_lies_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert default_fleet_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/edgeferry/fleet")
    assert default_fleet_dir({}) == tmp_path / ".local/share/edgeferry/fleet"
    assert default_fleet_dir({"XDG_DATA_HOME": "relative"}) == tmp_path / ".local/share/edgeferry/fleet"


def test_passwords_are_made_kept_and_readable_by_the_owner_alone(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path)
    made = passwords.make("pi")
    passwords.put("operator", "x")

    assert passwords.load() == {"operator": "x", "pi": made}
    assert (tmp_path / "secrets" / "passwords.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert len(made) >= 32


def test_a_password_that_there_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no password for 'pi'"):
        Passwords(tmp_path).of("pi")


def test_passwords_that_are_no_json_are_told(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "passwords.json").write_text("{")

    with pytest.raises(SettingsError, match=r"passwords\.json: cannot be read"):
        Passwords(tmp_path).load()


@pytest.mark.parametrize("text", ["", "no certificate", "\ufffd"])
def test_a_certificate_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="wanted PEM"):
        Passwords(tmp_path).put_ca(text)

    assert Passwords(tmp_path).ca_pem() == ""
