"""`edgeferry-agent`, as a person types it."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeferry.agent.cli import main
from edgeferry.wire.joining import format_token

from .test_config import TOKEN

HEAVY = ("numpy", "tensorflow", "ai_edge_litert", "paho", "tuf", "psutil", "yaml", "msgspec")


def run(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def init(folder: Path, *more: str, token: str | None = None) -> Result:
    text = format_token(TOKEN) if token is None else token
    arguments = ["--token-file", "-", "--state-dir", str(folder / "state"), "-o", str(folder / "agent.yaml"), *more]
    return run("init", *arguments, stdin=text)


class TestInit:
    def test_a_token_on_standard_input_becomes_a_configuration(self, tmp_path: Path) -> None:
        result = init(tmp_path)

        assert result.exit_code == 0
        assert (tmp_path / "agent.yaml").exists()
        assert f"next: edgeferry-agent run --config {tmp_path}/agent.yaml" in result.stderr
        assert TOKEN.password not in result.output

    def test_a_token_in_a_file_becomes_a_configuration(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text(format_token(TOKEN) + "\n")

        result = run(
            "init",
            *("--token-file", str(tmp_path / "token")),
            *("--state-dir", str(tmp_path / "state"), "-o", str(tmp_path / "agent.yaml")),
        )

        assert result.exit_code == 0

    def test_a_configuration_that_is_there_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "agent.yaml").write_text("mine")

        result = init(tmp_path)

        assert result.exit_code == 78
        assert "is there already; --force replaces it" in result.stderr
        assert (tmp_path / "agent.yaml").read_text() == "mine"

    def test_a_configuration_that_is_there_is_replaced_by_force(self, tmp_path: Path) -> None:
        (tmp_path / "agent.yaml").write_text("mine")

        assert init(tmp_path, "--force").exit_code == 0
        assert "kitchen" in (tmp_path / "agent.yaml").read_text()

    def test_a_cut_token_is_one_message_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        result = init(tmp_path, token=format_token(TOKEN)[:-3])

        assert result.exit_code == 78
        assert result.stderr.startswith("edgeferry-agent: token: ")
        assert "Traceback" not in result.output
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("content", [None, b"\xff\xfe"])
    def test_a_token_file_that_cannot_be_read_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "token"
        if content:
            path.write_bytes(content)

        result = run("init", "--token-file", str(path), "--state-dir", str(tmp_path), "-o", str(tmp_path / "a.yaml"))

        assert result.exit_code == 78
        assert f"cannot read the token from {path}" in result.stderr

    def test_a_forgotten_option_is_wrong_usage(self) -> None:
        assert run("init").exit_code == 2


class TestRun:
    @pytest.mark.parametrize("content", [None, "id: kitchen\n", "idd: kitchen\n"])
    def test_a_bad_configuration_ends_with_78_and_one_line(self, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "agent.yaml"
        if content:
            path.write_text(content)

        done = subprocess.run(
            [sys.executable, "-m", "edgeferry.agent", "run", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert done.returncode == 78
        assert done.stderr.startswith("edgeferry-agent: ")
        assert str(path) in done.stderr
        assert done.stderr.count("\n") == 1

    def test_a_missing_password_is_told_without_a_traceback(self, tmp_path: Path) -> None:
        init(tmp_path)
        (tmp_path / "state" / "identity" / "password").unlink()

        result = run("run", "--config", str(tmp_path / "agent.yaml"))

        assert result.exit_code == 78
        assert result.stderr.startswith("edgeferry-agent: cannot read the password from ")


class TestHelp:
    @pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["init", "--help"]])
    def test_it_has_an_example(self, arguments: list[str]) -> None:
        result = run(*arguments)

        assert result.exit_code == 0
        assert "Example: edgeferry-agent" in " ".join(result.output.split())

    def test_the_version_is_told(self) -> None:
        assert run("--version").output.startswith("edgeferry-agent, version ")

    def test_it_imports_nothing_heavy(self) -> None:
        script = (
            "import sys\nfrom edgeferry.agent.cli import main\n"
            "try: main(['--help'])\n"
            f"finally: print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
        )

        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

        assert "HEAVY []" in done.stdout
