import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.models import linear_model

from edgeferry.inference import selftest as module
from edgeferry.inference.model import Model
from edgeferry.inference.selftest import SelfTest, SelfTestError, record_selftest, run_selftest
from edgeferry.wire.desired import SelfTestSpec

SPEC = SelfTestSpec(samples=2)


@pytest.fixture
def real(tmp_path: Path) -> Model:
    return Model.load(linear_model(tmp_path / "real.tflite", features=4, classes=3))


@pytest.fixture
def quantized(tmp_path: Path) -> Model:
    return Model.load(linear_model(tmp_path / "quantized.tflite", features=4, classes=3, quantized=True))


def golden(model: Model, samples: int = 2) -> SelfTest:
    dtype = np.int8 if model.inputs[0].scale else np.float32
    return record_selftest(model, {"x": np.arange(samples * 4).reshape(samples, 1, 4).astype(dtype)})


def shifted(selftest: SelfTest, by: float, sample: int = 1) -> SelfTest:
    scores = selftest.outputs["scores"].copy()
    scores[sample, 0, 2] += scores.dtype.type(by)
    return SelfTest(selftest.inputs, {"scores": scores})


def test_a_model_reproduces_its_own_answers(real: Model, quantized: Model) -> None:
    assert run_selftest(real, golden(real), SPEC) is None
    assert run_selftest(quantized, golden(quantized), SPEC) is None


def test_a_self_test_survives_the_disk_and_equal_ones_are_equal_bytes(real: Model, tmp_path: Path) -> None:
    selftest = golden(real)
    selftest.save(tmp_path / "a.npz")
    selftest.save(tmp_path / "b.npz")

    loaded = SelfTest.load(tmp_path / "a.npz")

    assert loaded.samples == 2
    np.testing.assert_array_equal(loaded.inputs["x"], selftest.inputs["x"])
    np.testing.assert_array_equal(loaded.outputs["scores"], selftest.outputs["scores"])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_numpy_reads_the_same_file(real: Model, tmp_path: Path) -> None:
    golden(real).save(tmp_path / "a.npz")

    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert sorted(arrays) == ["input:x", "output:scores"]


def test_a_few_steps_are_allowed_and_one_more_is_not(quantized: Model) -> None:
    selftest = golden(quantized)

    assert run_selftest(quantized, shifted(selftest, 4), SPEC) is None
    mismatch = run_selftest(quantized, shifted(selftest, 5), SPEC)

    assert str(mismatch) == "output 'scores' of self-test sample 1: differs by 5 steps, allowed are 4"


def test_a_float_is_allowed_to_stray_by_the_tolerance(real: Model) -> None:
    selftest = golden(real)

    assert run_selftest(real, shifted(selftest, 1e-6), SPEC) is None
    mismatch = run_selftest(real, shifted(selftest, 0.1), SPEC)

    assert mismatch is not None
    assert mismatch.sample == 1
    assert "at [0, 2]" in mismatch.detail


def test_nan_matches_nothing(real: Model) -> None:
    assert run_selftest(real, shifted(golden(real), np.nan), SPEC) is not None


def test_an_integer_without_a_scale_has_to_be_equal(quantized: Model) -> None:
    output = quantized.outputs[0]
    quantized.outputs = (type(output)(output.name, output.datatype, output.shape),)

    mismatch = run_selftest(quantized, shifted(golden(quantized), 1), SPEC)

    assert mismatch is not None
    assert mismatch.detail == "differs by 1 steps, allowed are 0"


def test_another_shape_or_dtype_of_an_output_is_a_mismatch(real: Model) -> None:
    selftest = golden(real)
    other = SelfTest(selftest.inputs, {"scores": selftest.outputs["scores"].astype(np.float64)})

    mismatch = run_selftest(real, other, SPEC)

    assert mismatch is not None
    assert mismatch.detail == "is float32[1, 3], wanted float64[1, 3]"


@pytest.mark.parametrize("spec", [SelfTestSpec(samples=3), SelfTestSpec(samples=0)])
def test_fewer_samples_than_promised_are_refused(real: Model, spec: SelfTestSpec) -> None:
    with pytest.raises(SelfTestError, match=f"wanted {spec.samples} of"):
        run_selftest(real, golden(real), spec)


def test_a_self_test_of_another_model_is_refused(real: Model) -> None:
    selftest = golden(real)

    with pytest.raises(SelfTestError, match=r"the self-test does not fit the model: got inputs 'y'"):
        run_selftest(real, SelfTest({"y": selftest.inputs["x"]}, selftest.outputs), SPEC)
    with pytest.raises(SelfTestError, match="other"):
        run_selftest(real, SelfTest(selftest.inputs, {"other": selftest.outputs["scores"]}), SPEC)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **{name.replace("__", ":"): array for name, array in arrays.items()})
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"input__x": np.zeros((2, 1))},
        {"output__y": np.zeros((2, 1))},
        {"input__x": np.zeros((2, 1)), "output__y": np.zeros((3, 1))},
        {"input__x": np.zeros((0, 1)), "output__y": np.zeros((0, 1))},
        {"input__x": np.zeros(()), "output__y": np.zeros(())},
        {"input__x": np.zeros((2, 1)), "output__y": np.zeros((2, 1)), "more": np.zeros((2, 1))},
    ],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    path = save(tmp_path / "s.npz", **arrays)

    with pytest.raises(SelfTestError, match=r"s\.npz holds .*; wanted input:NAME and output:NAME"):
        SelfTest.load(path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "s.npz", input__x=np.array([{}], object), output__y=np.zeros(1))

    with pytest.raises(SelfTestError, match="allow_pickle"):
        SelfTest.load(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY"])
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)

    with pytest.raises(SelfTestError, match="is not a self-test"):
        SelfTest.load(tmp_path / "s.npz")


def test_a_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("input:x.npy", header.getvalue())

    with pytest.raises(SelfTestError, match="is not a self-test"):
        SelfTest.load(tmp_path / "s.npz")


def test_a_file_that_unpacks_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SELFTEST_BYTES", 1000)
    path = tmp_path / "s.npz"
    SelfTest({"x": np.zeros((2, 500), np.int8)}, {"y": np.zeros((2, 1), np.int8)}).save(path)

    with pytest.raises(SelfTestError, match="unpacks to 1258 bytes, allowed are 1000"):
        SelfTest.load(path)
