"""The float ``.tflite`` is compared with the source model, and where it strays is named."""

import numpy as np

from edgeferry.converter.difference import find_difference


def ones(*names: str) -> dict[str, np.ndarray]:
    return {name: np.ones((4, 1, 3)) for name in names}


def test_a_model_that_converts_well_differs_nowhere():
    source = {"out": np.linspace(-5, 5, 12).reshape(4, 1, 3)}
    converted = {"out": np.concatenate([source["out"] + 1e-6, np.ones((2, 1, 3))])}

    assert find_difference(source, converted) is None


def test_the_largest_offenders_are_named_with_both_values():
    converted = ones("a", "b")
    converted["a"][1, 0, 0] = 1.1
    converted["b"][2, 0, 1] = 3.0
    converted["b"][3, 0, 2] = 2.0

    difference = find_difference(ones("a", "b"), converted)

    assert difference.sentence == (
        "3 of 24 values are off, furthest 'b' of sample 2 at [0, 1] is 3, the source says 1; "
        "'b' of sample 3 at [0, 2] is 2, the source says 1; 'a' of sample 1 at [0, 0] is 1.1, the source says 1"
    )
    assert [(one.output, one.sample, one.place) for one in difference.offenders] == [
        ("b", 2, (0, 1)),
        ("b", 3, (0, 2)),
        ("a", 1, (0, 0)),
    ]


def test_five_are_named_and_the_worst_of_each_output_is_among_them():
    converted = {"a": np.full((4, 1, 3), 9.0), "b": np.full((4, 1, 3), 1.1)}

    difference = find_difference(ones("a", "b"), converted)

    assert [one.output for one in difference.offenders] == ["a", "a", "a", "a", "b"]
    assert difference.sentence.startswith("24 of 24 values are off")


def test_nan_is_the_largest_difference():
    converted = ones("a")
    converted["a"][0, 0, 0] = 1e9
    converted["a"][3, 0, 2] = np.nan

    worst, second = find_difference(ones("a"), converted).offenders

    assert (worst.sample, second.sample) == (3, 0)
    assert str(worst) == "'a' of sample 3 at [0, 2] is nan, the source says 1"


def test_other_shapes_and_names_are_differences():
    source = {"a": np.ones((2, 1, 3))}

    assert find_difference(source, {"a": np.ones((2, 1, 4))}).sentence == "output 'a' has shape [1, 4], wanted [1, 3]"
    assert find_difference(source, {"b": source["a"]}).sentence == "the outputs are called b, wanted a"
