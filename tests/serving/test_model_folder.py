import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.models import artifact_folder, linear_model, say_what_it_is
from tests.serving.conftest import Server

from edgeferry.agent.serving.command import child_environment
from edgeferry.agent.serving.model_folder import FolderError, find_models


def bare(folder: Path, name: str, version: int) -> None:
    (folder / name / str(version)).mkdir(parents=True)
    linear_model(folder / name / str(version) / "model.tflite", features=2, seed=version)


def found(folder: Path, *, all_versions: bool = False) -> list[tuple[str, int, bool]]:
    orders = find_models(folder, all_versions=all_versions)
    return [(order.model, order.version, order.manifest is not None) for order in orders]


def test_the_latest_version_of_each_model_is_found_or_all_of_them(tmp_path: Path) -> None:
    for version in (2, 9, 10):
        bare(tmp_path, "cats", version)
    artifact_folder(tmp_path, name="digits", version=3)
    (tmp_path / "cats" / "old").mkdir()
    (tmp_path / "notes.txt").write_text("no model")

    assert found(tmp_path) == [("cats", 10, False), ("digits", 3, True)]
    everything = [("cats", 2, False), ("cats", 9, False), ("cats", 10, False), ("digits", 3, True)]
    assert found(tmp_path, all_versions=True) == everything


def test_an_artifact_may_lie_in_the_versions_own_folder(tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path, name="digits", version=3)
    for file in folder.iterdir():
        shutil.move(file, folder.parent / file.name)

    assert found(tmp_path) == [("digits", 3, True)]


def test_what_cannot_be_chosen_from_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot read models from"):
        find_models(tmp_path / "none", all_versions=False)
    with pytest.raises(FolderError, match="holds no model; wanted NAME/VERSION/model"):
        find_models(tmp_path, all_versions=False)
    (tmp_path / "cats" / "1").mkdir(parents=True)
    with pytest.raises(FolderError, match=r"cats/1 holds no model\.tflite"):
        find_models(tmp_path, all_versions=False)
    for profile in ("a", "b"):
        artifact_folder(tmp_path, name="cats", version=2, profile=profile)
    with pytest.raises(FolderError, match="holds artifacts for several profiles: a, b; keep the one of this machine"):
        find_models(tmp_path, all_versions=False)


def test_bare_models_serve_their_latest_version(serve: Callable[..., Server], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    for version in (1, 2):
        bare(folder, "cats", version)
    server = serve(models=folder, all_versions=True)
    ask = json.dumps({"instances": [[1, 2]]})

    newest = server.request("POST", "/v1/models/cats:predict", ask)

    assert newest.json() == server.request("POST", "/v1/models/cats/versions/2:predict", ask).json()
    assert newest.json() != server.request("POST", "/v1/models/cats/versions/1:predict", ask).json()


def test_a_bare_model_is_served_with_the_quantization_and_the_labels_that_it_has_in_itself(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "cats" / "1"
    folder.mkdir(parents=True)
    say_what_it_is(linear_model(folder / "model.tflite", features=2, classes=3, quantized=True))
    server = serve(models=tmp_path / "models")

    answer = server.request("POST", "/v1/models/cats:classify", json.dumps({"examples": [{"x": [0.5, 1.0]}]}))

    (classes,) = answer.json()["results"]
    assert [name for name, _ in classes] == ["class-0", "class-1", "class-2"]
    assert any(score % 1 for _, score in classes)


def serve_command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "edgeferry.agent", "serve", *arguments]


def test_the_command_serves_a_folder_until_it_is_told_to_stop(tmp_path: Path) -> None:
    bare(tmp_path, "cats", 1)
    command = serve_command("--models", str(tmp_path), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=child_environment()) as process:
        assert process.stderr
        places = next(line for line in process.stderr if "serving on" in line)
        address = places.partition("http://")[2].split()[0]
        with urllib.request.urlopen(f"http://{address}/v1/models/cats", timeout=10) as answer:
            assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"

        process.terminate()

        assert "Traceback" not in process.stderr.read()
    assert "grpc://127.0.0.1:" in places
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "none"], "cannot read models from none: No such file or directory"),
        (["--models", "."], "holds no model; wanted NAME/VERSION/model.tflite"),
        (["--models", "bad"], "model.tflite cannot be loaded"),
        (["--models", "good", "--http", "0.0.0.0:0"], "0.0.0.0:0 is open to other machines"),
        (["--models", "good", "--grpc", "nowhere"], "'nowhere' is not HOST:PORT"),
        (["--models", "good", "--tls-key", "k"], "a certificate and its key belong together"),
    ],
)
def test_a_hurried_persons_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    bare(tmp_path / "good", "cats", 1)
    bad = tmp_path / "bad" / "cats" / "1"
    bad.mkdir(parents=True)
    (bad / "model.tflite").write_bytes(b"no model")
    command = serve_command(*arguments, *([] if "--http" in arguments else ["--http", "127.0.0.1:0"]))

    done = subprocess.run(
        command, cwd=tmp_path, env=child_environment(), capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 78
    assert message in done.stderr
    assert "Traceback" not in done.stderr
