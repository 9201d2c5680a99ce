"""Differences between versions of a blob: how small they are, and that they make the new version, whatever it is."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import linear_model, model_of_constants

from edgeferry.fleet import differences
from edgeferry.fleet.differences import difference_between, worthwhile_difference
from edgeferry.fleet.tensors import constants_in
from edgeferry.wire.difference import new_bytes

FEATURES = 2000
NOISE = random.Random(7).randbytes(100_000)


def makes(difference: bytes, old: bytes, new: bytes) -> bool:
    read_old = lambda offset, count: old[offset : offset + count]  # noqa: E731
    pieces = new_bytes(io.BytesIO(difference).read, read_old, old_count=len(old), new_count=len(new))
    return b"".join(pieces) == new


def share(old: bytes, new: bytes) -> float:
    """Return how large the difference is in parts of the new bytes; it makes them."""
    difference = difference_between(old, new)
    assert makes(difference, old, new)
    return len(difference) / len(new)


def weights(seed: int, *, steps: int = 0) -> np.ndarray:
    """Return int8 weights; with ``steps``, one in ten is so many steps beside those of the same seed without."""
    rng = np.random.default_rng(seed)
    made = rng.normal(0, 30, (10, FEATURES)).clip(-120, 120).astype(np.int8)
    made[rng.random(made.shape) < 0.1] += np.int8(steps)
    return made


class TestModels:
    def test_a_tensor_that_was_retrained_lightly_costs_a_fraction(self, tmp_path: Path) -> None:
        old = model_of_constants(tmp_path / "old", {"w": weights(1), "v": weights(2)})
        new = model_of_constants(tmp_path / "new", {"w": weights(1, steps=1), "v": weights(2)})

        assert share(old, new) < 0.1

    def test_one_that_stands_elsewhere_is_found_by_its_name(self, tmp_path: Path) -> None:
        old = model_of_constants(tmp_path / "old", {"w": weights(1), "v": weights(2)})
        new = model_of_constants(tmp_path / "new", {"added": weights(3)[:1], "v": weights(2, steps=1), "w": weights(1)})

        assert share(old, new) < 0.2

    def test_one_that_was_renamed_is_compared_with_the_next_of_its_size(self, tmp_path: Path) -> None:
        old = model_of_constants(tmp_path / "old", {"w": weights(1), "v": weights(2)[:5]})
        new = model_of_constants(tmp_path / "new", {"w_1": weights(1, steps=1), "v_1": weights(2, steps=1)[:5]})

        assert share(old, new) < 0.15

    def test_of_two_with_the_same_name_each_has_its_own(self, tmp_path: Path) -> None:
        pairs = [("w", weights(1)), ("w", weights(2)), ("w", weights(3)[:5])]
        old = model_of_constants(tmp_path / "old", pairs)
        new = model_of_constants(tmp_path / "new", [*pairs[:1], ("w", weights(2, steps=1)), ("w", weights(4)[:5])])

        assert share(old, new) < 0.3

    def test_a_model_trained_from_scratch_is_sent_whole(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        old, new = (
            model_of_constants(tmp_path / name, {"w": rng.integers(-128, 128, (10, FEATURES)).astype(np.int8)})
            for name in ("old", "new")
        )

        assert worthwhile_difference(old, new) is None

    def test_values_behind_the_flatbuffer_are_found_as_well(self, tmp_path: Path) -> None:
        old = model_of_constants(tmp_path / "old", {"w": weights(1)}, outside=True)
        new = model_of_constants(tmp_path / "new", {"added": weights(3)[:1], "w": weights(1, steps=1)}, outside=True)

        assert [one.name for one in constants_in(new)] == [b"added", b"w"]
        assert share(old, new) < 0.25

    def test_values_that_two_tensors_share_are_made_once(self, tmp_path: Path) -> None:
        old, new = (
            model_of_constants(
                tmp_path / str(steps), dict.fromkeys("wv", weights(1, steps=steps)), outside=True, shared=True
            )
            for steps in (0, 1)
        )

        assert len(constants_in(new)) == 2
        assert len({one.offset for one in constants_in(new)}) == 1
        assert share(old, new) < 0.2

    @pytest.mark.parametrize("cut", [0, 4, 8, 100, 1000, -10])
    def test_a_damaged_model_is_a_file_like_others(self, tmp_path: Path, cut: int) -> None:
        whole = model_of_constants(tmp_path / "old", {"w": weights(1)}, outside=True)

        assert share(whole, whole[:cut] + NOISE[:50]) >= 0

    def test_values_that_lie_outside_of_the_file_are_none(self, tmp_path: Path) -> None:
        whole = model_of_constants(tmp_path / "old", {"w": weights(1)}, outside=True)

        assert constants_in(whole[:-10]) == []
        assert constants_in(NOISE) == []

    def test_a_tensor_without_values_is_no_constant(self, tmp_path: Path) -> None:
        path = linear_model(tmp_path / "model.tflite", features=FEATURES)

        found = {one.name: one.count for one in constants_in(path.read_bytes())}

        assert found == {b"w": 10 * FEATURES * 4, b"b": 10 * 4}


class TestOtherFiles:
    def test_what_was_put_in_or_taken_out_costs_no_more_than_that(self) -> None:
        new = NOISE[:1000] + NOISE[5000:40_000] + b"put in" + NOISE[40_000:]

        assert share(NOISE, new) < 0.01

    def test_what_stands_elsewhere_is_found(self) -> None:
        assert share(NOISE, NOISE[50_000:] + NOISE[:50_000]) < 0.01

    def test_bytes_that_differ_now_and_then_are_one_run(self) -> None:
        shifted = bytes(byte if at % 50 else byte ^ 1 for at, byte in enumerate(NOISE))

        assert share(NOISE, b"!" + shifted) < 0.1

    @pytest.mark.parametrize(("old", "new"), [(b"", b""), (b"", NOISE), (NOISE, b""), (NOISE, NOISE[:40])])
    def test_nothing_and_little_are_made_too(self, old: bytes, new: bytes) -> None:
        assert makes(difference_between(old, new), old, new)

    def test_the_same_bytes_cost_next_to_nothing(self) -> None:
        assert len(difference_between(NOISE, NOISE)) < 50

    def test_what_is_not_alike_is_sent_whole(self) -> None:
        assert worthwhile_difference(NOISE, random.Random(8).randbytes(len(NOISE))) is None

    def test_what_is_alike_is_worthwhile(self) -> None:
        assert worthwhile_difference(NOISE, NOISE + b"more") is not None

    def test_what_does_not_fit_into_memory_twice_is_sent_whole(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(differences, "MAX_BYTES", len(NOISE))

        assert worthwhile_difference(NOISE, NOISE + b"!") is None

    def test_no_more_is_searched_than_takes_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(differences, "SEARCHED_BYTES", 10_000)

        assert share(NOISE, b"!" + NOISE) > 0.9
        assert share(NOISE, NOISE[:-1] + b"!") < 0.01  # what stands in its place needs no search


@settings(max_examples=200)
@given(st.binary(max_size=400), st.data())
def test_any_bytes_are_made_from_any_others(old: bytes, data: st.DataObject) -> None:
    parts = st.one_of(st.binary(max_size=60), st.integers(0, max(len(old) - 1, 0)).map(lambda at: old[at : at + 120]))
    new = b"".join(data.draw(st.lists(parts, max_size=5)))

    assert makes(difference_between(old, new), old, new)
