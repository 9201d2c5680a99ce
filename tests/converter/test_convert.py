"""The command as a user runs it, on models that need no TensorFlow; its children are real."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from edgeferry.inference.metadata import read_metadata
from edgeferry.inference.model import Model
from edgeferry.inference.selftest import SelfTest, run_selftest
from edgeferry.wire.desired import decode_manifest
from tests.models import countdown_model, linear_model, recursive_model

PI = ("-p", "raspberry-pi-4")


def profile_file(folder: Path, **changes: str) -> str:
    """Write a profile like generic-aarch64 with other top-level keys; return its path."""
    path = folder / "board.yaml"
    lines = ["title: A board", "extends: generic-aarch64", *(f"{key}: {value}" for key, value in changes.items())]
    sources = [f"  - figures: [{key}]\n    reason: a test" for key in changes]
    path.write_text("\n".join([*lines, "sources:", *sources, ""]))
    return str(path)


def artifact(output: Path, profile: str = "raspberry-pi-4", version: int = 1) -> Path:
    return output / "digits" / str(version) / profile


def manifest_of(folder: Path):
    return decode_manifest((folder / "artifact.json").read_bytes())


@pytest.fixture(scope="module")
def converted(linear, tmp_path_factory) -> Path:
    """Return the output folder of one conversion for two profiles."""
    output = tmp_path_factory.mktemp("converted")
    subprocess.run(
        command(*linear.arguments(output, *PI, "-p", "generic-x86-64")), check=True, capture_output=True, timeout=100
    )
    return output


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from edgeferry.converter.cli import convert; convert()", *arguments]


def test_every_profile_gets_its_artifact(converted):
    folders = sorted((converted / "digits" / "1").iterdir())

    assert [folder.name for folder in folders] == ["generic-x86-64", "raspberry-pi-4"]
    for folder in folders:
        files = sorted(path.name for path in folder.iterdir())
        assert files == [
            "artifact.json",
            "lock.json",
            "model.tflite",
            "report.html",
            "report.json",
            "selftest.npz",
        ]


def test_the_manifest_says_what_the_model_is(converted):
    folder = artifact(converted)

    manifest = manifest_of(folder)
    model = Model.load(folder / "model.tflite")

    assert (manifest.name, manifest.version, manifest.profile, manifest.scheme) == ("digits", 1, folder.name, "int8")
    assert manifest.inputs == model.inputs
    assert manifest.outputs == model.outputs
    assert [spec.datatype for spec in (*manifest.inputs, *manifest.outputs)] == ["INT8", "INT8"]
    assert manifest.memory_bytes > 0
    assert manifest.evaluation["metric"] == "accuracy"
    assert manifest.evaluation["float"] == 1.0
    assert manifest.evaluation["samples"] == 500
    assert manifest.evaluation["drop"] == pytest.approx(1.0 - manifest.evaluation["candidate"])


def test_the_model_reproduces_its_self_test(converted):
    folder = artifact(converted)
    manifest = manifest_of(folder)
    selftest = SelfTest.load(folder / "selftest.npz")

    assert selftest.samples == manifest.selftest.samples == 8
    assert run_selftest(Model.load(folder / "model.tflite"), selftest, manifest.selftest) is None


def test_the_report_tells_the_whole_story(converted):
    report = json.loads((artifact(converted) / "report.json").read_text())

    assert [row["scheme"] for row in report["candidates"]] == ["int8", "dynamic_int8", "float16", "float32"]
    assert report["candidates"][0]["verdict"] == "chosen"
    assert report["source"]["name"] == "linear.tflite"
    assert report["evaluation"]["held_out"] is True
    assert len(report["calibration"]["sha256"]) == 64
    assert "litert-quantizer" in report["host"]["packages"]
    assert report["looks"]["int8"]["answers"]["kind"] == "classes"
    assert report["looks"]["int8"]["operations"] == {"FULLY_CONNECTED": 1}
    (layer,) = report["looks"]["int8"]["layers"]
    assert layer["signal_db"] > 30
    assert layer["cause"] == ""


def test_the_page_tells_the_same_story(converted):
    page = (artifact(converted) / "report.html").read_text()

    assert page.startswith("<!DOCTYPE html>")
    assert "is the first of the profile's schemes that keeps every budget" in page.replace("&#x27;", "'")


def test_the_model_says_what_it_is(converted):
    folder = artifact(converted)
    manifest = manifest_of(folder)

    said = read_metadata(folder / "model.tflite")

    assert said is not None
    assert (said.name, said.version, said.scheme) == ("digits", 1, "int8")
    assert (said.inputs, said.outputs, said.evaluation) == (manifest.inputs, manifest.outputs, manifest.evaluation)
    assert said.calibration_sha256 == json.loads((folder / "report.json").read_text())["calibration"]["sha256"]


def test_labels_stand_in_the_model_and_in_its_manifest(linear, run, tmp_path):
    names = tuple(f"digit {number}" for number in range(10))
    (tmp_path / "labels.txt").write_text("\n".join(names))

    result = run(
        linear.arguments(tmp_path / "out", *PI, "--scheme", "float32", "--labels", str(tmp_path / "labels.txt"))
    )

    assert result.exit_code == 0, result.stderr
    folder = artifact(tmp_path / "out")
    assert read_metadata(folder / "model.tflite").labels == names
    assert manifest_of(folder).labels == names


def test_labels_that_do_not_fit_the_model_are_refused(linear, run, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")

    result = run(linear.arguments(tmp_path / "out", *PI, "--labels", str(tmp_path / "labels.txt")))

    assert result.exit_code == 2
    assert "has 2 names, but the model's output is scores[1, 10]" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_second_conversion_imports_no_tool_and_gives_the_same_bytes(converted, linear, tmp_path):
    code = (
        "import sys; from edgeferry.converter.cli import convert; convert(standalone_mode=False); "
        "heavy = {'tensorflow', 'keras', 'litert_quantizer', 'ai_edge_litert'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    arguments = linear.arguments(tmp_path, *PI, "-p", "generic-x86-64")

    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("job.json"))
    for name in ("model.tflite", "selftest.npz", "report.json"):
        assert (artifact(tmp_path) / name).read_bytes() == (artifact(converted) / name).read_bytes()


def test_without_the_cache_nothing_is_kept(linear, run, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    result = run(linear.arguments(tmp_path / "out", *PI, "--scheme", "float32", "--no-cache"))

    assert result.exit_code == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("scheme", "datatype"), [("float32", "FP32"), ("float16", "FP32"), ("dynamic_int8", "FP32"), ("int8", "INT8")]
)
def test_each_scheme_can_be_asked_for(linear, run, tmp_path, scheme, datatype):
    result = run(linear.arguments(tmp_path / "out", *PI, "--scheme", scheme, "--json"))

    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert [profile["scheme"] for profile in shown["profiles"]] == [scheme]
    folder = artifact(tmp_path / "out")
    assert shown["path"] == str(folder.parent)
    assert manifest_of(folder).inputs[0].datatype == datatype
    assert (
        run_selftest(
            Model.load(folder / "model.tflite"), SelfTest.load(folder / "selftest.npz"), manifest_of(folder).selftest
        )
        is None
    )


def test_int8_is_smaller_than_float32(linear, run, tmp_path):
    wide = linear_model(tmp_path / "wide.tflite", features=64, classes=200)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(1).random((30, 64), np.float32))

    result = run(
        [
            str(wide),
            "--name",
            "digits",
            *PI,
            "--calibration",
            str(tmp_path / "x.npz"),
            "-o",
            str(tmp_path),
            "--max-drop",
            "0.1",
            "--json",
        ]
    )

    assert result.exit_code == 0, result.stderr
    candidates = json.loads(result.stdout)["profiles"][0]["candidates"]
    sizes = {row["scheme"]: row["size_bytes"] for row in candidates}
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert candidates[0]["evaluation"]["metric"] == "r2_agreement"
    assert "judged by the samples of --calibration" not in result.stdout
    assert "judged by the samples of --calibration" in result.stderr


def test_weights_follow_the_profile_and_other_schemes_are_passed_over(linear, run, tmp_path):
    profile = profile_file(tmp_path, schemes="[mixed, int8]", weights="per_tensor")

    result = run(linear.arguments(tmp_path / "out", "-p", profile))

    assert result.exit_code == 0, result.stderr
    assert "passed over: the converter makes float32, float16, dynamic_int8, int8, int16x8" in result.stdout
    assert "making and measuring int8 per_tensor" in result.stderr
    assert manifest_of(artifact(tmp_path / "out", "board")).scheme == "int8"


def test_the_table_ends_a_conversion_and_versions_count_up(linear, run, tmp_path):
    arguments = linear.arguments(tmp_path, *PI, "--scheme", "float32")
    run(arguments)

    result = run(arguments)

    lines = result.stdout.splitlines()
    assert lines[0].split() == ["profile", "scheme", "size", "accuracy", "drop", "(95", "%)", "latency", "verdict"]
    assert lines[1].split()[:2] == ["raspberry-pi-4", "float32"]
    assert lines[1].endswith("chosen")
    assert lines[-1] == f"Wrote {tmp_path / 'digits' / '2'}"


def test_a_version_that_holds_other_bytes_is_refused(linear, run, tmp_path):
    run(linear.arguments(tmp_path, *PI, "--scheme", "float32", "--model-version", "5"))

    result = run(linear.arguments(tmp_path, *PI, "--scheme", "float16", "--model-version", "5"))

    assert result.exit_code == 1
    assert "this version exists already with other bytes" in result.stderr
    assert manifest_of(artifact(tmp_path, version=5)).scheme == "float32"


def test_when_nothing_keeps_the_budget_nothing_is_written_and_the_nearest_miss_is_named(linear, run, tmp_path):
    budgets = "{model_bytes: 100, memory_bytes: 128 MiB}"
    (tmp_path / "board.yaml").write_text(f"title: A board\nextends: generic-aarch64\nbudgets: {budgets}\n")

    result = run(
        linear.arguments(tmp_path / "out", *PI, "-p", str(tmp_path / "board.yaml"), "--scheme", "int8", "--json")
    )

    assert result.exit_code == 1
    assert "no scheme keeps the budgets of board: nearest is" in result.stderr
    assert "the profile allows 0.1 KiB; nothing was written" in result.stderr
    assert json.loads(result.stdout)["path"] is None
    assert not (tmp_path / "out").exists()


def test_a_model_that_crashes_the_interpreter_is_told_in_one_message(linear, run, tmp_path):
    model = recursive_model(tmp_path / "recursive.tflite")
    np.savez(tmp_path / "x.npz", x=np.ones(2))

    result = run(
        [str(model), "--name", "digits", *PI, "--calibration", str(tmp_path / "x.npz"), "-o", str(tmp_path / "out")]
    )

    assert result.exit_code == 1
    assert "converting recursive.tflite crashed with SIGSEGV while loading recursive.tflite" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "exit_code", "message"),
    [
        (("-p", "raspbery-pi-4"), 2, 'did you mean "raspberry-pi-4"'),
        (("--scheme", "int7"), 2, "--scheme 'int7' is not known"),
        (("--name", "a b"), 2, "--name 'a b'"),
        (("--max-drop", "2"), 2, "--max-drop 2"),
        (("--model-version", "0"), 2, "Invalid value for '--model-version'"),
        (("--model-version", "99999999999999999999999999"), 2, "is not in the range 1<=x<=9007199254740992"),
        (("--timeout", "nan"), 2, "--timeout nan: wanted 1 to 604800 seconds"),
        (("--timeout", "inf"), 2, "Invalid value for '--timeout'"),
        (("--calibration", "none.npz"), 2, "edgeferry: none.npz: No such file"),
        (("--evaluation", "none.npz"), 2, "edgeferry: none.npz: No such file"),
        (("--calibration", "/"), 2, "edgeferry: /: holds no arrays; where it holds pictures"),
        (("--calibration", "n" * 300), 2, "File name too long"),
    ],
)
def test_bad_options_are_refused_with_one_message(linear, run, tmp_path, change, exit_code, message):
    result = run(linear.arguments(tmp_path / "out", *PI, *change))

    assert result.exit_code == exit_code
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((4, 63))}, "has shape (4, 63), wanted (samples, 64)"),
        ({"x": np.full((4, 64), np.nan)}, "NaN or infinity in 4 of 4 samples"),
        ({"x": np.ones((4, 64)), "y": np.array([0, 10, 3, 4])}, "label 10 at sample 1, but the model tells 10 classes"),
    ],
)
def test_bad_samples_are_refused_with_one_message(linear, run, tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)

    result = run(linear.arguments(tmp_path / "out", *PI, "--evaluation", str(tmp_path / "bad.npz")))

    assert result.exit_code == 1
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("edgeferry: ")]) == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_a_wrong_usage(linear, run, tmp_path):
    result = run(["none.keras", *linear.arguments(tmp_path / "out", *PI)[1:]])

    assert result.exit_code == 2
    assert result.stderr == (
        "edgeferry: none.keras: No such file or directory; wanted a model file or a SavedModel [REQUEST_WRONG]\n"
    )


def test_an_output_that_is_a_file_is_refused_before_anything_is_done(linear, run, tmp_path):
    (tmp_path / "out").write_text("mine")

    result = run(linear.arguments(tmp_path / "out", *PI))

    assert result.exit_code == 1
    home = tmp_path / "out" / "digits"
    sentence = f"{home}: cannot be written: {tmp_path / 'out'} is a file; wanted a folder"
    assert result.stderr == f"edgeferry: {sentence} [ARTIFACT_UNUSABLE]\n"
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.ones((4, 63), np.float32)},
        {"x": np.ones((4, 64), np.float32), "y": np.array([0, 10, 3, 4])},
        {"other": np.ones((4, 64), np.float32), "another": np.ones(4)},
    ],
)
def test_samples_are_named_as_they_were_typed_and_before_the_model_is_converted(
    linear, run, tmp_path, monkeypatch, arrays
):
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", **arrays)

    result = run(linear.arguments(tmp_path / "out", *PI, "--evaluation", "bad.npz"))

    first, last = result.stderr.splitlines()
    assert first == "converting linear.tflite to TensorFlow Lite"
    assert last.startswith("edgeferry: bad.npz: ")


def test_bad_calibration_samples_stop_everything(linear, run, tmp_path):
    np.savez(tmp_path / "bad.npz", x=np.ones((4, 63)))

    result = run(linear.arguments(tmp_path / "out", *PI, "--calibration", str(tmp_path / "bad.npz")))

    assert result.exit_code == 1
    assert "bad.npz: array for input 'x' has shape (4, 63)" in result.stderr


def test_int8_without_calibration_is_refused(linear, run, tmp_path):
    result = run(
        [str(linear.model), "--name", "digits", *PI, "--evaluation", str(linear.evaluation), "-o", str(tmp_path)]
    )

    assert result.exit_code == 2
    assert "wants int8, which learns its ranges from real samples: give --calibration X.npz" in result.stderr


def test_a_step_that_takes_too_long_is_ended(linear, run, tmp_path):
    model = countdown_model(tmp_path / "slow.tflite")
    np.savez(tmp_path / "x.npz", x=np.full(2, 1e30))

    result = run(
        [
            str(model),
            "--name",
            "digits",
            *PI,
            "--calibration",
            str(tmp_path / "x.npz"),
            "-o",
            str(tmp_path / "out"),
            "--timeout",
            "3",
        ]
    )

    assert result.exit_code == 1
    assert "took longer than 3 s while running slow.tflite as it is; allow more with --timeout" in result.stderr


def test_a_scheme_that_the_quantizer_refuses_does_not_stop_the_others(run, tmp_path):
    model = countdown_model(tmp_path / "loop.tflite")
    np.savez(tmp_path / "x.npz", x=np.array([4.0, 5.0, 6.0]))
    samples = ["--calibration", str(tmp_path / "x.npz"), "--scheme", "int8", "--scheme", "float32"]

    result = run([str(model), "--name", "digits", *PI, *samples, "-o", str(tmp_path / "out")])

    assert result.exit_code == 0, result.stderr
    assert "not made: the quantizer refuses the model" in result.stdout
    assert manifest_of(artifact(tmp_path / "out")).scheme == "float32"


def test_a_temporary_folder_that_cannot_be_used_is_named(linear, run, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    result = run(linear.arguments(tmp_path / "out", *PI))

    assert result.exit_code == 1
    assert f"edgeferry: {tmp_path / 'gone'}" in result.stderr
    assert "No such file or directory; the conversion needs room there" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(linear, tmp_path, number):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        command(*linear.arguments(tmp_path / "out", *PI, "--no-cache")),
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("converting")
    wait_until(lambda: list(temporary.glob("edgeferry-convert-*/source/step.txt")))

    process.send_signal(number)
    said = process.communicate(timeout=20)[1]

    assert process.returncode != 0
    assert "Traceback" not in said
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "out").exists()


def wait_until(condition, *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_command_is_light_until_it_runs():
    code = (
        "import sys, edgeferry.converter.cli; sys.exit(any(m in sys.modules for m in ('numpy', 'tensorflow', 'keras')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("shape", ["1,x", "", "image=", "1,,2", "-1,64"])
def test_a_shape_that_is_none_is_refused(linear, run, tmp_path, shape):
    result = run(linear.arguments(tmp_path, *PI, "--shape", shape))

    assert result.exit_code == 2
    assert "wanted whole numbers, such as 1,224,224,3 or image=1,224,224,3" in result.stderr


def test_a_shape_and_a_signature_may_be_named(linear, run, tmp_path):
    options = ["--shape", "x=1,64", "--signature", "serving_default", "--scheme", "float32"]

    assert run(linear.arguments(tmp_path, *PI, *options)).exit_code == 0


def test_a_signature_that_is_not_there_is_told(linear, run, tmp_path):
    result = run(linear.arguments(tmp_path, *PI, "--signature", "train"))

    assert result.exit_code == 2
    assert "--signature 'train': linear.tflite has serving_default" in result.stderr


def test_tensorflow_cannot_quantize_what_is_tensorflow_lite_already(linear, run, tmp_path):
    result = run(linear.arguments(tmp_path, *PI, "--engine", "tensorflow"))

    assert result.exit_code == 2
    assert "--engine tensorflow needs the model that the .tflite was made of" in result.stderr


def test_a_model_that_cannot_be_trained_is_told_before_anything_starts(linear, run, tmp_path):
    result = run(linear.arguments(tmp_path, "-p", "generic-x86-64", "--allow-training"))

    assert result.exit_code == 2
    assert "--allow-training needs the Keras model that it was made of" in result.stderr
    assert list(tmp_path.iterdir()) == []
