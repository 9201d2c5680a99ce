"""Samples that a function of the user's yields."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeferry.converter.errors import ConverterError
from edgeferry.converter.preparing import function
from edgeferry.converter.preparing.function import is_function, write_yielded
from edgeferry.converter.samples import Samples


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes what a module's ``samples`` yields."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(code: str, name: str = "samples") -> Samples:
        module = f"data_{abs(hash(code)) % 10**8}"
        (tmp_path / f"{module}.py").write_text(code)
        (tmp_path / "made").mkdir()
        write_yielded(f"{module}:{name}", tmp_path / "made", tmp_path)
        return Samples.load(tmp_path / "made")

    return write


def test_samples_come_with_or_without_labels(written, tmp_path):
    samples = written("def samples():\n    for n in range(5):\n        yield [n, 2 * n], n % 2")

    assert (samples.count, samples.labels.tolist()) == (5, [0, 1, 0, 1, 0])
    assert samples.arrays["x"][2:4].tolist() == [[2, 4], [3, 6]]


def test_a_list_is_as_good_as_a_generator(written):
    samples = written("import numpy\nsamples = lambda: [numpy.ones((2, 2), numpy.float32)] * 3")

    assert (samples.count, samples.labels, samples.arrays["x"].dtype) == (3, None, np.float32)


def test_several_inputs_come_by_name(written):
    samples = written("def samples():\n    yield {'a:0': 1.5, 'b': [1, 2]}, [0.5, 0.25]")

    assert {name: rows.shape for name, rows in samples.arrays.items()} == {"a:0": (1,), "b": (1, 2)}
    assert samples.labels.tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def samples():\n    return []", "has yielded no samples; wanted arrays, or pairs"),
        ("def samples():\n    yield [1]\n    raise KeyError('lost')", "failed: KeyError: 'lost' (data_"),
        ("samples = 3", "has no function 'samples'"),
        ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
        ("def samples(:", "cannot be imported: SyntaxError"),
        ("def samples():\n    yield 'text'", "sample 0: holds <U4; wanted numbers of equal shapes"),
        ("def samples():\n    yield [[1], [1, 2]]", "sample 0: is no array: ValueError"),
        ("def samples():\n    yield [1.0]\n    yield [float('nan')]", "sample 1: holds NaN or infinity"),
        (
            "def samples():\n    yield [1]\n    yield [1, 2]",
            "sample 1: x is int64[2], that of the first one was int64[1]",
        ),
        (
            "def samples():\n    yield [1]\n    yield [1.5]",
            "sample 1: x is float64[1], that of the first one was int64",
        ),
        ("def samples():\n    yield [1], 0\n    yield [1]", "sample 1: has x, the first one had x, y"),
        ("def samples(path):\n    yield [1]", "failed: TypeError: samples() missing 1 required"),
        ("def samples():\n    return 3", "failed: TypeError: 'int' object is not iterable"),
    ],
)
def test_what_goes_wrong_is_told_with_its_place(written, code, message):
    with pytest.raises(ConverterError) as caught:
        written(code)

    assert message in str(caught.value)


def test_a_function_that_never_ends_is_stopped_when_there_is_too_much(written, monkeypatch):
    monkeypatch.setattr(function, "MAX_UNPACKED_BYTES", 8000)

    with pytest.raises(ConverterError, match="sample 1000: the samples are more than 8000 bytes by now"):
        written("def samples():\n    while True:\n        yield 1.0")


def test_a_function_is_told_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:name").touch()

    names = ["data:samples", "my.data:samples", "odd:name", "data.npz", "C:/x.npz", "a:b:c", "data:", ".:x"]

    assert [name for name in names if is_function(Path(name))] == ["data:samples", "my.data:samples"]
