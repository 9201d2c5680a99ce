"""What calibration learns, and how many samples it holds."""

import weakref
from pathlib import Path

import numpy as np

from edgeferry.converter.calibration import calibrate
from edgeferry.converter.samples import EncodedSamples
from edgeferry.converter.schemes import Variant, recipe
from edgeferry.device_profiles import Scheme
from edgeferry.inference.model import Model


def test_ranges_are_the_least_and_the_greatest_value_of_any_sample(linear):
    x = np.random.default_rng(0).normal(0, 3, (9, 64)).astype(np.float32)

    found = learnt(linear.model, EncodedSamples({"x": x}, Model.load(linear.model).inputs))

    (low, high), *_ = [(one["min"].item(), one["max"].item()) for name, one in found.items() if "x" in name]
    assert (low, high) == (x.min(), x.max())


def test_one_sample_is_held_at_a_time(linear):
    held: list[weakref.ref[np.ndarray]] = []
    most = 0

    def samples():
        nonlocal most
        for _ in range(20):
            sample = np.ones((1, 64), np.float32)
            held.append(weakref.ref(sample))
            yield {"x": sample}
            del sample
            most = max(most, sum(one() is not None for one in held))

    learnt(linear.model, samples())

    assert len(held) == 20
    assert most <= 2


def learnt(model: Path, samples):
    return calibrate(model.read_bytes(), "serving_default", samples, recipe(Variant(Scheme.INT8)))
