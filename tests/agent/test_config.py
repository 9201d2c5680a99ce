"""agent.yaml: what it says, what is wrong with it, and how one is made from a token."""

import base64
import stat
from pathlib import Path

import pytest
import yaml

from edgeferry.agent.config import AgentConfig, BrokerUrl, load_config, write_config
from edgeferry.agent.errors import ConfigError
from edgeferry.agent.fsops import Disk
from edgeferry.wire.joining import JoinToken, format_token
from edgeferry.wire.topics import DEFAULT_ROOT

PROFILE = "generic-x86-64"
TOKEN = JoinToken(
    v=1,
    id="kitchen",
    profile=PROFILE,
    brokers=("mqtts://broker.local:8883", "mqtt://10.0.0.1:1883"),
    password="a password",
    root=base64.b64encode(b'{"signed":{}}').decode(),
    groups=("pets",),
    ca_pem="-----BEGIN CERTIFICATE-----\n",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The smallest agent.yaml that is right."""
    (tmp_path / "password").write_text("a password\n")
    (tmp_path / "root.json").write_bytes(b"root")
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"id: kitchen\n"
        f"profile: {PROFILE}\n"
        f"state_dir: {tmp_path}/state\n"
        f"broker:\n"
        f"  urls: [mqtt://broker.local]\n"
        f"  password_file: {tmp_path}/password\n"
        f"trust:\n"
        f"  root_file: {tmp_path}/root.json\n"
    )
    return path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def refusal(path: Path) -> str:
    """Return what `load_config` says against the file."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.exit_code == 78
    return str(caught.value)


class TestReading:
    def test_the_smallest_file_says_everything_that_is_needed(self, file: Path, tmp_path: Path) -> None:
        config = load_config(file)

        assert (config.id, config.profile.name, config.state_dir) == ("kitchen", PROFILE, tmp_path / "state")
        assert config.brokers == (BrokerUrl("broker.local", 1883, tls=False),)
        assert (config.password, config.root, config.ca_file) == ("a password", b"root", None)

    def test_what_it_leaves_out_has_a_default(self, file: Path) -> None:
        config = load_config(file)

        assert (config.topic_root, config.max_packet_bytes, config.telemetry_interval_s) == (DEFAULT_ROOT, 131072, 10)
        assert (config.groups, config.http, config.root_sha256) == ((), "", "")

    def test_everything_can_be_said(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("certificate")
        changed(file, "broker:\n", f"broker:\n  ca_file: {tmp_path}/ca.pem\n  topic_root: home\n")
        file.write_text(file.read_text() + "listen:\n  http: 127.0.0.1:8501\ntelemetry_interval_s: 60\ngroups: [a]\n")

        config = load_config(file)

        assert (config.ca_file, config.topic_root, config.http) == (tmp_path / "ca.pem", "home", "127.0.0.1:8501")
        assert (config.telemetry_interval_s, config.groups) == (60, ("a",))

    def test_a_relative_state_directory_is_below_the_current_one(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        config = load_config(changed(file, f"state_dir: {tmp_path}/state", "state_dir: here/state"))

        assert config.state_dir == tmp_path / "here" / "state"

    @pytest.mark.parametrize("http", ["127.0.0.1:1", "localhost:65535", "[::1]:8501"])
    def test_an_address_to_listen_on_is_a_host_and_a_port(self, file: Path, http: str) -> None:
        file.write_text(file.read_text() + f"listen:\n  http: '{http}'\n")

        assert load_config(file).http == http

    def test_a_fingerprint_may_stand_in_the_place_of_the_root(self, file: Path, tmp_path: Path) -> None:
        changed(file, f"root_file: {tmp_path}/root.json", f"root_sha256: {'ab' * 32}")

        config = load_config(file)

        assert (config.root, config.root_sha256) == (b"", "ab" * 32)

    def test_secrets_are_not_shown(self, file: Path) -> None:
        assert "a password" not in repr(load_config(file))

    @pytest.mark.parametrize(
        ("url", "read"),
        [
            ("mqtts://b", BrokerUrl("b", 8883, tls=True)),
            ("mqtt://b:1884", BrokerUrl("b", 1884, tls=False)),
            ("mqtts://[::1]:8884", BrokerUrl("::1", 8884, tls=True)),
        ],
    )
    def test_a_broker_has_a_host_a_port_and_maybe_tls(self, file: Path, url: str, read: BrokerUrl) -> None:
        assert load_config(changed(file, "mqtt://broker.local", f"'{url}'")).brokers == (read,)

    def test_a_broker_is_shown_as_a_url(self) -> None:
        assert str(BrokerUrl("b", 8883, tls=True)) == "mqtts://b:8883"


class TestRefusing:
    def test_an_unknown_key_is_named_with_file_line_and_a_suggestion(self, file: Path) -> None:
        message = refusal(changed(file, "  password_file:", "  pasword_file:"))

        assert message == f'{file}:6: broker.pasword_file is not a known key; did you mean "password_file"?'

    def test_a_missing_key_is_named(self, file: Path) -> None:
        assert "id is missing" in refusal(changed(file, "id: kitchen\n", ""))

    def test_an_unknown_profile_is_named(self, file: Path) -> None:
        assert "pi-9" in refusal(changed(file, PROFILE, "pi-9"))

    @pytest.mark.parametrize(
        ("old", "new", "found"),
        [
            ("id: kitchen", "id: 'a/b'", "'a/b' cannot stand in a topic"),
            ("broker:\n", "broker:\n  topic_root: 'a//b'\n", "topic root 'a//b' is not usable"),
            ("broker:\n", "broker:\n  max_packet_bytes: 10\n", "max_packet_bytes: found '10', wanted a whole number"),
            ("id: kitchen", "id: kitchen\nlisten:\n  http: everywhere", "found 'everywhere', wanted HOST:PORT"),
            ("id: kitchen", "id: kitchen\nlisten:\n  http: 127.0.0.1:0", "with a port of 1 to 65535"),
            ("id: kitchen", "id: kitchen\nlisten:\n  http: 127.0.0.1:65536", "listen.http: found '127.0.0.1:65536'"),
            ("id: kitchen", "id: kitchen\nlisten:\n  http: ':8501'", "listen.http: found ':8501', wanted HOST:PORT"),
            ("id: kitchen", "id: kitchen\nlisten:\n  grpc: '8500'", "listen.grpc: found '8500', wanted HOST:PORT"),
            ("id: kitchen", "id: kitchen\nlisten:\n  http: 0.0.0.0:8501", "listen.http: 0.0.0.0:8501 is open to other"),
            (
                "id: kitchen",
                "id: kitchen\nlisten:\n  grpc: kitchen.local:8500\n  token_file: t",
                "that takes tls_certificate_file, tls_key_file and token_file",
            ),
            ("id: kitchen", "id: kitchen\ntelemetry_interval_s: 0", "telemetry_interval_s: found '0'"),
            ("id: kitchen", "id: [", "agent.yaml"),
        ],
    )
    def test_a_value_that_cannot_be_used_is_named(self, file: Path, old: str, new: str, found: str) -> None:
        assert found in refusal(changed(file, old, new))

    @pytest.mark.parametrize(
        "url",
        ["http://b", "b:1883", "mqtt://", "mqtt://b:port", "mqtt://b:99999", "mqtt://[::1", "mqtt://user:secret@b"],
    )
    def test_a_url_that_is_no_broker_is_refused_without_its_password(self, file: Path, url: str) -> None:
        message = refusal(changed(file, "mqtt://broker.local", f"'{url}'"))

        assert "wanted mqtt://host:port or mqtts://host:port, without a password" in message
        assert "secret" not in message

    def test_no_broker_at_all_is_refused(self, file: Path) -> None:
        assert "broker.urls is empty; wanted one such as" in refusal(changed(file, "[mqtt://broker.local]", "[]"))

    @pytest.mark.parametrize("trust", ["root_file: a\n  root_sha256: b", "{}"])
    def test_trust_begins_in_one_way_alone(self, file: Path, tmp_path: Path, trust: str) -> None:
        new = f"  {trust}" if trust != "{}" else "  root_file: ''"
        message = refusal(changed(file, f"  root_file: {tmp_path}/root.json", new))

        assert "root_file" in message

    def test_a_fingerprint_has_64_digits(self, file: Path, tmp_path: Path) -> None:
        changed(file, f"root_file: {tmp_path}/root.json", "root_sha256: abc")

        assert "wants 64 hexadecimal digits" in refusal(file)

    @pytest.mark.parametrize(
        ("name", "what"),
        [("agent.yaml", "the configuration"), ("password", "the password"), ("root.json", "the first trusted root")],
    )
    def test_a_missing_file_is_named_with_what_it_is(self, file: Path, name: str, what: str) -> None:
        (file.parent / name).unlink()

        assert refusal(file) == f"cannot read {what} from {file.parent / name}: No such file or directory"

    def test_a_missing_certificate_is_named(self, file: Path) -> None:
        changed(file, "broker:\n", "broker:\n  ca_file: /missing/ca.pem\n")

        assert "cannot read the broker's certificate authority from /missing/ca.pem" in refusal(file)

    @pytest.mark.parametrize(("content", "found"), [(b"\xff\xfe", "is not text"), (b"\n", "is empty")])
    def test_a_password_that_is_none_is_refused(self, file: Path, content: bytes, found: str) -> None:
        (file.parent / "password").write_bytes(content)

        assert found in refusal(file)

    def test_a_file_that_is_far_too_long_is_refused(self, file: Path) -> None:
        file.write_bytes(b"#" * 70_000)

        assert "70000 bytes, wanted at most 65536" in refusal(file)


class TestWriting:
    @pytest.fixture
    def joined(self, tmp_path: Path) -> AgentConfig:
        write_config(format_token(TOKEN), tmp_path / "state", tmp_path / "agent.yaml", http="", disk=Disk())
        return load_config(tmp_path / "agent.yaml")

    def test_what_a_token_says_is_what_is_read(self, joined: AgentConfig, tmp_path: Path) -> None:
        assert (joined.id, joined.profile.name, joined.groups) == ("kitchen", PROFILE, ("pets",))
        assert [str(url) for url in joined.brokers] == list(TOKEN.brokers)
        assert (joined.password, joined.root) == ("a password", b'{"signed":{}}')
        assert joined.ca_file == tmp_path / "state" / "identity" / "ca.pem"

    def test_everything_is_for_this_user_alone(self, joined: AgentConfig, tmp_path: Path) -> None:
        identity = tmp_path / "state" / "identity"
        files = [tmp_path / "agent.yaml", *identity.iterdir()]

        assert len(files) == 4
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in (identity, identity.parent)} == {0o700}
        assert joined.id == "kitchen"

    def test_the_password_does_not_stand_in_the_file(self, joined: AgentConfig, tmp_path: Path) -> None:
        assert joined.password not in (tmp_path / "agent.yaml").read_text()

    def test_what_a_token_leaves_out_is_left_out(self, tmp_path: Path) -> None:
        token = JoinToken(v=1, id="hall", profile=PROFILE, brokers=("mqtt://b",), password="p", root="cm9vdA==")
        write_config(format_token(token), tmp_path / "state", tmp_path / "agent.yaml", http="", disk=Disk())

        written = yaml.safe_load((tmp_path / "agent.yaml").read_text())

        assert set(written) == {"id", "profile", "state_dir", "broker", "trust"}
        assert set(written["broker"]) == {"urls", "password_file"}

    def test_what_is_not_the_default_is_written(self, tmp_path: Path) -> None:
        token = JoinToken(
            v=1, id="hall", profile=PROFILE, brokers=("mqtt://b",), password="p", root="cm9vdA==", topic_root="home"
        )
        write_config(
            format_token(token), tmp_path / "state", tmp_path / "agent.yaml", http="127.0.0.1:9000", disk=Disk()
        )

        config = load_config(tmp_path / "agent.yaml")

        assert (config.topic_root, config.http) == ("home", "127.0.0.1:9000")

    @pytest.mark.parametrize(
        ("token", "found"),
        [
            (format_token(TOKEN)[:-20], "token: "),
            (format_token(TOKEN)[:40], "copy the whole line"),
            ("", "copy the whole line"),
            (format_token(JoinToken(v=1, id="a", profile="pi-9", brokers=(), password="p", root="")), "pi-9"),
            (format_token(JoinToken(v=1, id="a", profile=PROFILE, brokers=(), password="p", root="?")), "base64"),
        ],
    )
    def test_a_token_that_cannot_be_used_leaves_nothing_behind(self, tmp_path: Path, token: str, found: str) -> None:
        with pytest.raises(ConfigError, match=found):
            write_config(token, tmp_path / "state", tmp_path / "agent.yaml", http="", disk=Disk())

        assert list(tmp_path.iterdir()) == []
