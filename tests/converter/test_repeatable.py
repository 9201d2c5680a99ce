"""A trained network and one with badly scaled channels: converted, reported, and made again elsewhere."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgeferry.fleet.demo.digits import write_digits

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.tensorflow,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.timeout(300),
]

PROFILES = ("raspberry-pi-4", "generic-x86-64")


def python(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Converted:
    """A version, and where its inputs are."""

    folder: Path
    inputs: Path

    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / PROFILES[0] / "report.json").read_text())


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Converted]:
    """Return both networks, converted for two kinds of devices."""
    folder = tmp_path_factory.mktemp("repeatable")
    samples = write_digits(folder)
    module = "edgeferry.converter.training.image_classifier"
    assert python("-m", module, samples.train, folder / "plain.keras").returncode == 0
    script = Path(__file__).with_name("scaled_digits.py")
    assert python(script, folder / "plain.keras", folder / "scaled.keras").returncode == 0
    for name in ("plain", "scaled"):
        profiles = [word for profile in PROFILES for word in ("-p", profile)]
        given = ["--calibration", samples.train, "--evaluation", samples.test, "--name", name, "-o", folder / "out"]
        done = python("-m", "edgeferry.fleet", "convert", folder / f"{name}.keras", *profiles, *given)
        assert done.returncode == 0, done.stderr
    return {name: Converted(folder / "out" / name / "1", folder) for name in ("plain", "scaled")}


@pytest.mark.parametrize("name", ["plain", "scaled"])
def test_every_profile_is_made_again_with_another_home_hash_seed_and_number_of_threads(converted, tmp_path, name):
    environment = {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": "",
        "PYTHONHASHSEED": "4711",
        "OMP_NUM_THREADS": "3",
        "TF_NUM_INTRAOP_THREADS": "2",
        "TF_NUM_INTEROP_THREADS": "2",
        "TZ": "Asia/Tokyo",
        "LANG": "C",
    }

    done = python("-m", "edgeferry.fleet", "verify", converted[name].folder, "--json", **environment)

    assert done.returncode == 0, done.stderr + done.stdout
    assert [found["equal"] for found in json.loads(done.stdout)] == [True] * len(PROFILES)
    assert not (tmp_path / "home" / ".cache").exists()


def test_badly_scaled_channels_are_named_where_they_are(converted):
    layers = converted["scaled"].report()["looks"]["int8 as it was"]["layers"]

    causes = {layer["cause"] for layer in layers if "conv2d_1" in layer["name"] and layer["operation"] == "CONV_2D"}
    assert causes & {"dead channels", "range outlier"}
    assert [layer["cause"] for layer in layers][-1] == "inherited"


def test_equalized_channels_are_scaled_back_before_they_are_compared(converted):
    layers = converted["scaled"].report()["looks"]["int8"]["layers"]

    assert {layer["cause"] for layer in layers} == {""}


def test_no_layer_of_a_well_scaled_network_stands_out(converted):
    assert {layer["cause"] for layer in converted["plain"].report()["looks"]["int8"]["layers"]} == {""}
