"""Files that are none of the formats, damaged ones and traps: one sentence each, an exit code, no traceback."""

import contextlib
import json
import random
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeferry.converter.errors import SourceError
from edgeferry.converter.formats.registry import detect
from edgeferry.converter.inspection.__main__ import read
from edgeferry.converter.inspection.keras_file import read_archive, read_hdf5
from edgeferry.converter.inspection.tflite_file import read_tflite
from tests.converter.inspection.keras_models import write_archive, write_hdf5
from tests.models import linear_model

DEEP = 100_000


def archive(path: Path, members: dict[str, str | bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def hdf5(path: Path, **attributes: str) -> Path:
    with h5py.File(path, "w") as file:
        file["values"] = np.ones(3)
        file.attrs.update(attributes)
    return path


MAKERS = {
    "random bytes": (
        lambda folder: _written(folder / "m.tflite", random.Random(1).randbytes(500)),
        "is not a TensorFlow Lite model",
    ),
    "a head and random bytes": (
        lambda folder: _written(folder / "m.tflite", b"\x1c\0\0\0TFL3" + random.Random(1).randbytes(500)),
        "is a damaged TensorFlow Lite model",
    ),
    "a cut .tflite": (lambda folder: cut(linear_model(folder / "m.tflite")), "is a damaged TensorFlow Lite model"),
    "an empty .tflite": (lambda folder: _written(folder / "m.tflite", b""), "is not a TensorFlow Lite model"),
    "a cut .keras": (lambda folder: cut(write_archive(folder / "m.keras")), "is a damaged Keras 3 model"),
    "a cut .h5": (lambda folder: cut(write_hdf5(folder / "m.h5")), "is a damaged HDF5 file"),
    "weights alone": (lambda folder: hdf5(folder / "m.h5"), "is an HDF5 file with only weights"),
    "no JSON": (lambda folder: archive(folder / "m.keras", {"config.json": "{"}), "its config.json is not JSON"),
    "a list": (lambda folder: archive(folder / "m.keras", {"config.json": "[]"}), "its config.json is a list, wanted"),
    "a bomb": (
        lambda folder: archive(folder / "m.keras", {"config.json": b" " * (65 << 20)}, zipfile.ZIP_DEFLATED),
        "its config.json unpacks to 68157440 bytes, wanted 67108864 at most",
    ),
    "a bomb of weights": (
        lambda folder: archive(
            folder / "m.keras", {"config.json": "{}", "model.weights.h5": bytes(1 << 20)}, zipfile.ZIP_DEFLATED
        ),
        "it may be a trap",
    ),
    "weights that are none": (
        lambda folder: archive(folder / "m.keras", {"config.json": "{}", "model.weights.h5": b"x"}),
        "its model.weights.h5 is damaged",
    ),
    "a deep nest": (
        lambda folder: archive(folder / "m.keras", {"config.json": "[" * DEEP + "]" * DEEP}),
        "is nested too deeply",
    ),
    "a deep nest in .h5": (
        lambda folder: hdf5(folder / "m.h5", model_config="[" * 30_000 + "]" * 30_000),
        "is nested too deeply",
    ),
    "a folder of anything": (lambda folder: folder, "is a folder without saved_model.pb"),
    "an empty SavedModel": (lambda folder: _written(folder / "saved_model.pb", b"").parent, "holds no graph"),
    "a SavedModel of junk": (
        lambda folder: _written(folder / "saved_model.pb", b"junk").parent,
        "is a damaged SavedModel",
    ),
}


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", MAKERS)
def test_a_bad_file_is_told_in_a_sentence(kind, tmp_path):
    make, message = MAKERS[kind]
    path = make(tmp_path)

    with pytest.raises(SourceError) as caught:
        read({"path": str(path), "format": detect(path).name}, tmp_path)

    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["a folder of anything", "a cut .tflite", "a bomb", "a deep nest"])
def test_the_sentence_and_an_exit_code_are_all_that_a_user_sees(kind, tmp_path, run_inspect):
    make, message = MAKERS[kind]

    result = run_inspect(make(tmp_path))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_path_that_leads_nowhere_is_a_mistake_of_usage(tmp_path, run_inspect):
    result = run_inspect(tmp_path / "nothing.keras")

    assert result.exit_code == 2
    assert "No such file or directory; wanted a model file or a SavedModel" in result.stderr


def test_a_profile_that_does_not_exist_is_told_before_anything_is_read(tmp_path, run_inspect):
    result = run_inspect(tmp_path / "nothing.keras", "--check", "raspberry-pi-44")

    assert result.exit_code == 2
    assert "raspberry-pi-44" in result.stderr


def test_reading_takes_no_longer_than_it_may(tmp_path, run_inspect):
    result = run_inspect(linear_model(tmp_path / "m.tflite"), "--timeout", "0")

    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("make", "reader", "changes"),
    [
        (lambda folder: linear_model(folder / "m.tflite", quantized=True), read_tflite, 300),
        (lambda folder: write_hdf5(folder / "m.h5"), read_hdf5, 60),
        (lambda folder: write_archive(folder / "m.keras"), read_archive, 60),
    ],
    ids=["tflite", "h5", "keras"],
)
def test_whatever_bytes_are_changed_it_is_read_or_told(make, reader, changes, tmp_path):
    path = make(tmp_path)
    sound = path.read_bytes()
    for seed in range(changes):
        chance = random.Random(seed)
        data = bytearray(sound)
        for _ in range(chance.choice([1, 3, 20])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)

        with contextlib.suppress(SourceError, OSError):
            reader(path)


def test_whatever_is_changed_in_a_configuration_it_is_read_or_told(tmp_path):
    path = write_archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    for seed in range(200):
        archive(path, {"config.json": json.dumps(_changed(config, random.Random(seed)))})

        with contextlib.suppress(SourceError):
            read_archive(path)


def _changed(value, chance):
    if chance.random() < 0.04:
        return chance.choice([None, 5, [], {}, "x", [[1]], {"class_name": "A"}, {"config": []}, True, 1.5])
    if isinstance(value, dict):
        return {key: _changed(one, chance) for key, one in value.items()}
    return [_changed(one, chance) for one in value] if isinstance(value, list) else value
