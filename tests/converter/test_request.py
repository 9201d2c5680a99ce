"""What makes sense to ask for."""

import dataclasses
from pathlib import Path

import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.request import ConversionRequest, check_request
from edgeferry.device_profiles import Scheme, load_profile

PI = load_profile("raspberry-pi-4")
GOOD = ConversionRequest(
    model=Path("m.keras"), name="cats", profiles=(PI,), output=Path("out"), calibration=Path("c.npz")
)


def test_a_good_request_passes():
    check_request(GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"name": ".hidden"}, "no dot at first"),
        ({"max_drop": float("nan")}, "--max-drop nan: wanted 0 to 1"),
        ({"max_drop": -0.1}, "--max-drop -0.1"),
        ({"max_drop": 1.5}, "--max-drop 1.5"),
        ({"deadline_s": float("nan")}, "--timeout nan: wanted 1 to 604800 seconds"),
        ({"deadline_s": float("inf")}, "--timeout inf"),
        ({"profiles": ()}, "profiles none: wanted one or more"),
        ({"profiles": (PI, PI)}, "raspberry-pi-4, raspberry-pi-4: wanted one or more, each once"),
        ({"calibration": None}, "no samples to judge by: give --evaluation"),
        (
            {"calibration": None, "evaluation": Path("e.npz")},
            "raspberry-pi-4 wants int8, .* give --calibration X.npz, or",
        ),
        ({"calibration": None, "evaluation": Path("e"), "schemes": (Scheme.INT8,)}, "give --calibration X.npz$"),
        ({"schemes": (Scheme.INT16X8,)}, "asked for int16x8, and the converter makes .*: nothing is left"),
    ],
)
def test_nonsense_is_refused_with_exit_code_2(change, message):
    with pytest.raises(RequestError, match=message) as caught:
        check_request(dataclasses.replace(GOOD, **change))

    assert caught.value.exit_code == 2


def test_without_int8_no_calibration_is_needed():
    request = dataclasses.replace(GOOD, calibration=None, evaluation=Path("e.npz"), schemes=(Scheme.FLOAT16,))

    check_request(request)
    assert request.judged_by == Path("e.npz")
    assert request.is_held_out


def test_calibration_samples_are_not_held_out():
    assert GOOD.judged_by == Path("c.npz")
    assert not GOOD.is_held_out
    assert not dataclasses.replace(GOOD, evaluation=Path("./c.npz")).is_held_out
    assert dataclasses.replace(GOOD, evaluation=Path("e.npz")).is_held_out
