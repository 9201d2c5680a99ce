"""Files with the names of classes, as hurried people write them."""

import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.labels import check_labels, read_labels
from edgeferry.wire.desired import TensorSpec


def test_a_name_stands_on_each_line(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffcat \r\n dog\r\nMäuse\n".encode())

    assert read_labels(path) == ("cat", "dog", "Mäuse")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"cat\n\ndog\n", "line 2: '' is no name"),
        (b"cat\nd\x00g\n", "line 2: 'd.x00g' is no name"),
        (b"x" * 201, "line 1: 'x{40}' is no name"),
        (b"caf\xe9\n", "is not UTF-8"),
        (b"x\n" * 300_000, "has more than 524288 bytes"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, content, message):
    (tmp_path / "labels.txt").write_bytes(content)

    with pytest.raises(RequestError, match=message):
        read_labels(tmp_path / "labels.txt")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RequestError, match=r"none\.txt: No such file"):
        read_labels(tmp_path / "none.txt")


@pytest.mark.parametrize(("names", "shape"), [(10, (1, 10)), (2, (1, 1)), (2, (1,)), (2, (1, 2)), (2, ())])
def test_there_are_as_many_names_as_scores(tmp_path, names, shape):
    check_labels("--labels names.txt", ["cat"] * names, [TensorSpec("scores", "FP32", shape)])


@pytest.mark.parametrize("outputs", [(), (9,), (10, 10)])
def test_another_number_of_names_is_refused(tmp_path, outputs):
    specs = [TensorSpec(f"out{index}", "FP32", (1, size)) for index, size in enumerate(outputs)]

    with pytest.raises(RequestError, match="has 10 names, but the model's output is"):
        check_labels("--labels names.txt", ["cat"] * 10, specs)
