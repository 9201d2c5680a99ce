"""The float ``.tflite`` is compared with the source model, and where it strays is named."""

import numpy as np

from edgeferry.converter.difference import largest_difference


def test_a_model_that_converts_well_differs_nowhere():
    source = {"out": np.linspace(-5, 5, 12).reshape(4, 1, 3)}
    converted = {"out": np.concatenate([source["out"] + 1e-6, np.ones((2, 1, 3))])}

    assert largest_difference(source, converted) is None


def test_the_largest_difference_is_named():
    source = {"a": np.ones((4, 1, 3)), "b": np.ones((4, 1, 3))}
    converted = {"a": np.ones((4, 1, 3)), "b": np.ones((4, 1, 3))}
    converted["a"][1, 0, 0] = 1.1
    converted["b"][2, 0, 1] = 3.0

    difference = largest_difference(source, converted)

    assert (difference.output, difference.sample) == ("b", 2)
    assert difference.sentence == "output 'b' of sample 2 is 3 at [0, 1], the source says 1"


def test_nan_is_the_largest_difference():
    converted = {"a": np.ones((4, 1, 3))}
    converted["a"][3, 0, 2] = np.nan

    assert largest_difference({"a": np.ones((4, 1, 3))}, converted).sample == 3


def test_other_shapes_and_names_are_differences():
    source = {"a": np.ones((2, 1, 3))}

    assert "shape [1, 4], wanted [1, 3]" in largest_difference(source, {"a": np.ones((2, 1, 4))}).sentence
    assert largest_difference(source, {"b": source["a"]}).sentence == "the outputs are called b, wanted a"
