"""`edgeferry verify` and `edgeferry cache`, as a user runs them; children are real."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeferry.converter.cli import convert
from edgeferry.converter.commands.cache import cache
from edgeferry.converter.commands.verify import verify


@pytest.fixture(scope="module")
def artifact(linear, tmp_path_factory) -> Path:
    """Return an artifact of the linear model; not to be changed."""
    output = tmp_path_factory.mktemp("verified")
    arguments = linear.arguments(output, "-p", "raspberry-pi-4", "--scheme", "int8")
    assert CliRunner().invoke(convert, arguments).exit_code == 0
    return output / "digits" / "1" / "raspberry-pi-4"


@pytest.fixture
def copy(artifact, tmp_path) -> Path:
    """Return a copy of the artifact, to be changed."""
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


@pytest.fixture
def run() -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(verify, [str(argument) for argument in arguments])


def change_lock(folder: Path, **changes: object) -> None:
    path = folder / "lock.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_artifact_is_made_again_in_another_environment(artifact, tmp_path):
    environment = os.environ | {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONHASHSEED": "77",
        "OMP_NUM_THREADS": "3",
        "LANG": "C",
        "TZ": "Asia/Tokyo",
    }
    command = [sys.executable, "-c", "from edgeferry.converter.commands.verify import verify; verify()"]

    done = subprocess.run(
        [*command, str(artifact)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{artifact}: the same, byte for byte\n"
    assert done.stderr.splitlines() == ["converting linear.tflite", "making int8"]
    assert list(tmp_path.iterdir()) == []


def test_all_profiles_of_a_version_are_verified(artifact, run):
    result = run(artifact.parent, "--json")

    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert found["equal"] is True
    assert found["sha256"] == found["made_sha256"]
    assert [step["what"] for step in found["steps"]] == ["converting linear.tflite", "making int8"]


def test_inputs_that_were_moved_are_given(artifact, copy, linear, run, tmp_path):
    inputs = json.loads((copy / "lock.json").read_text())["inputs"]
    change_lock(copy, inputs=[one | {"path": f"/gone/{one['role']}"} for one in inputs])

    missing = run(copy)
    found = run(copy, "--model", linear.model, "--calibration", linear.calibration, "--evaluation", linear.evaluation)

    assert missing.exit_code == 2
    assert missing.stderr == ("edgeferry: model /gone/model: No such file or directory; give it with --model\n")
    assert found.exit_code == 0, found.stderr


def test_another_input_is_not_taken_for_the_one_that_was(artifact, linear, run):
    result = run(artifact, "--calibration", linear.evaluation)

    assert result.exit_code == 2
    assert "is not what the artifact was made from: SHA-256 " in result.stderr
    assert "give it with --calibration" in result.stderr


def test_a_model_that_was_changed_is_told_before_any_work(copy, run):
    model = copy / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1] + b"\x07")

    result = run(copy)

    assert result.exit_code == 1
    assert "is another model than lock.json tells of" in result.stderr
    assert "making" not in result.stderr


def test_other_bytes_are_told_with_the_stage_and_the_tools(copy, run):
    lock = json.loads((copy / "lock.json").read_text())
    step = lock["steps"][1]
    recipe = json.loads(json.dumps(step["job"]["recipe"]).replace("CHANNELWISE", "TENSORWISE"))
    changed = step | {"job": step["job"] | {"recipe": recipe}}
    change_lock(copy, steps=[lock["steps"][0], changed], tools=lock["tools"] | {"keras": "2.0", "gone": "1"})

    result = run(copy)
    as_data = run(copy, "--json")

    assert result.exit_code == as_data.exit_code == 1
    assert "differs: making int8 gives other bytes (gone 1 then, none now, keras 2.0 then, " in result.stdout
    (found,) = json.loads(as_data.stdout)
    assert [step["equal"] for step in found["steps"]] == [True, False]
    assert found["changed_tools"]["keras"]["then"] == "2.0"


def test_other_metadata_alone_is_told_too(copy, run):
    change_lock(copy, metadata="{}")

    assert "writing the metadata gives other bytes, with the same tools" in run(copy).stdout


def test_other_tools_that_give_the_same_bytes_are_named(copy, run):
    lock = json.loads((copy / "lock.json").read_text())
    change_lock(copy, tools=lock["tools"] | {"keras": "2.0"})

    result = run(copy)

    assert result.exit_code == 0
    assert "the same, byte for byte, although other tools made it (keras 2.0 then, " in result.stdout


@pytest.mark.parametrize("module", ["os", "edgeferry.fleet.cli", "edgeferry.converter.x; import os", "pytest"])
def test_a_lock_runs_no_code_but_the_converters(copy, run, module):
    lock = json.loads((copy / "lock.json").read_text())
    change_lock(copy, steps=[lock["steps"][0] | {"module": module}])

    result = run(copy)

    assert result.exit_code == 1
    assert "which is none of the converter's" in result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"made": {}}, "does not say which of its steps made the model"),
        ({"made": {"$step": 9, "output": "x"}}, "names nothing that it lists"),
        ({"format": 99}, "has format 99, wanted 1"),
        ({"steps": 3}, "is not a lock"),
        ({"metadata": "x" * (8 * 1024 * 1024)}, "has more than 8388608 bytes"),
    ],
)
def test_a_lock_that_is_damaged_is_told_in_one_message(copy, run, changes, message):
    change_lock(copy, **changes)

    result = run(copy)

    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", "has no lock.json; wanted an artifact"),
        (".", "has no lock.json; wanted an artifact"),
        ("n" * 300, "File name too long"),
    ],
)
def test_what_is_no_artifact_is_told(run, tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)

    result = run(path)

    assert result.exit_code == 2
    assert message in result.stderr


def test_an_artifact_without_its_model_is_told(copy, run):
    (copy / "model.tflite").unlink()

    result = run(copy)

    assert result.exit_code == 1
    assert "model.tflite: No such file" in result.stderr


def test_the_cache_is_listed_and_pruned(artifact, monkeypatch, tmp_path):
    tree = Path(os.environ["XDG_CACHE_HOME"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(shutil.copytree(tree, tmp_path / "cache")))
    ask = CliRunner()

    listed = ask.invoke(cache, ["list"])
    as_data = json.loads(ask.invoke(cache, ["list", "--json"]).stdout)

    assert listed.stdout.splitlines()[0].split() == ["key", "size", "used", "stage"]
    assert "making int8" in listed.stdout
    assert listed.stdout.splitlines()[-1].endswith(as_data["path"])
    assert as_data["size_bytes"] == sum(entry["size_bytes"] for entry in as_data["entries"])

    pruned = json.loads(ask.invoke(cache, ["prune", "--max-size", "0", "--json"]).stdout)

    assert pruned["removed"] == len(as_data["entries"])
    assert (pruned["left"], pruned["size_bytes"]) == (0, 0)
    assert ask.invoke(cache, ["prune"]).stdout == "removed 0 stages, 0.0 KiB; 0 stay, 0.0 KiB\n"
    assert ask.invoke(cache, ["list"]).stdout.startswith("0 stages, 0.0 KiB, in ")


@pytest.mark.parametrize("size", ["x", "-1", "1 TB", "1e9", "9" * 30, ""])
def test_a_size_that_is_none_is_a_wrong_usage(size):
    result = CliRunner().invoke(cache, ["prune", "--max-size", size])

    assert result.exit_code == 2
    assert "is not a size; wanted a number with KiB, MiB or GiB: 500MiB" in result.stderr
