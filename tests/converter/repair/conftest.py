"""A small net, and the same with its channels rescaled, and samples that both classify alike."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.repair.making import Base
from edgeferry.converter.repair.observation import Sample
from edgeferry.converter.schemes import Variant, recipe
from edgeferry.device_profiles import Scheme
from edgeferry.inference.model import Model
from tests.models import convolutional_model

FACTOR = 300.0


@dataclass(frozen=True)
class Net:
    """A float ``.tflite`` with samples."""

    path: Path
    samples: tuple[Sample, ...]

    def base(self, scheme: Scheme = Scheme.INT8) -> Base:
        return Base(self.path.read_bytes(), self.samples, recipe(Variant(scheme)), per_channel=True)


def make_net(folder: Path, rescaled: float) -> Net:
    path = convolutional_model(folder / f"net-{rescaled:g}.tflite", rescaled=rescaled)
    x = np.random.default_rng(5).random((40, 1, 8, 8, 3), np.float32)
    return Net(path, tuple({"x": one} for one in x))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return make_net(tmp_path_factory.mktemp("plain"), 1.0)


@pytest.fixture(scope="session")
def rescaled(tmp_path_factory: pytest.TempPathFactory) -> Net:
    return make_net(tmp_path_factory.mktemp("rescaled"), FACTOR)


def answers(net: Net) -> np.ndarray:
    """Return what the float model itself says."""
    model = Model.load(net.path)
    return np.concatenate([model.run(dict(sample))["scores"] for sample in net.samples])
