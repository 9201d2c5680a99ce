"""What operators cost, counted by hand."""

import pytest

from edgeferry.converter.inspection.tflite_cost import macs_of, peak_activation, uses_of
from edgeferry.converter.inspection.tflite_facts import OperatorFacts, OperatorKind, SubgraphFacts, TensorFacts


def tensor(index: int, *shape: int, size_bytes: int = 4, constant: bool = False, variable: bool = False):
    return TensorFacts(index, f"t{index}", "float32", shape, size_bytes, is_constant=constant, is_variable=variable)


def operator(index: int, inputs, outputs, name: str = "ADD", macs: int = 0) -> OperatorFacts:
    return OperatorFacts(index, name, OperatorKind.BUILTIN, 1, tuple(inputs), tuple(outputs), macs=macs)


def macs(name: str, inputs, output, **options) -> int:
    """Return the count for input shapes (None for one left out) and an output shape."""
    tensors = [tensor(at, *(shape or ())) for at, shape in enumerate([*inputs, output])]
    indices = [-1 if shape is None else at for at, shape in enumerate(inputs)]
    return macs_of(name, indices, [len(inputs)], tensors, options)


LSTM = [(1, 5, 3), *[(4, 3)] * 4, *[(4, 4)] * 4, None, None, None, *[(4,)] * 4, (2, 4), None, (1, 2), (1, 4)]


@pytest.mark.parametrize(
    ("name", "inputs", "output", "wanted"),
    [
        ("CONV_2D", [(1, 8, 8, 3), (16, 3, 3, 3), (16,)], (1, 8, 8, 16), 8 * 8 * 16 * 3 * 3 * 3),
        ("CONV_2D", [(-1, 8, 8, 4), (16, 3, 3, 2), (16,)], (-1, 8, 8, 16), 8 * 8 * 16 * 3 * 3 * 2),
        ("DEPTHWISE_CONV_2D", [(1, 8, 8, 4), (1, 3, 3, 4), (4,)], (1, 8, 8, 4), 8 * 8 * 4 * 9),
        ("TRANSPOSE_CONV", [(4,), (16, 2, 2, 3), (1, 8, 8, 3)], (1, 16, 16, 16), 8 * 8 * 3 * 16 * 2 * 2),
        ("CONV_3D", [(1, 4, 4, 4, 2), (3, 3, 3, 2, 8), (8,)], (1, 4, 4, 4, 8), 64 * 8 * 27 * 2),
        ("CONV_3D_TRANSPOSE", [(5,), (2, 2, 2, 8, 2), (1, 4, 4, 4, 2)], (1, 8, 8, 8, 8), 64 * 2 * 8 * 8),
        ("FULLY_CONNECTED", [(1, 64), (10, 64), (10,)], (1, 10), 640),
        ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), 2 * 3 * 5 * 4),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", LSTM, (1, 5, 2), 5 * (4 * 12 + 4 * 16 + 8)),
        ("UNIDIRECTIONAL_SEQUENCE_RNN", [(1, 5, 3), (4, 3), (4, 4), (4,), (1, 4)], (1, 5, 4), 5 * (12 + 16)),
        ("ADD", [(1, 64), (1, 64)], (1, 64), 0),
        ("CONV_2D", [(1, 8, 8, 3)], (1, 8, 8, 16), 0),
    ],
)
def test_multiplications_are_those_of_the_definition(name, inputs, output, wanted):
    assert macs(name, inputs, output) == wanted


def test_a_transposed_first_matrix_shares_its_other_axis():
    assert macs("BATCH_MATMUL", [(2, 4, 3), (2, 4, 5)], (2, 3, 5), adjX=True) == 2 * 3 * 5 * 4


def test_an_operator_without_an_output_costs_nothing():
    assert macs_of("CONV_2D", [0], [], [tensor(0, 1)], {}) == 0


def test_the_peak_is_where_most_has_to_exist_at_once():
    #   0 (10) -> 1 (20) -> 2 (5) -> 3 (1), and 0 is added to 2 again
    tensors = [tensor(at, size_bytes=size) for at, size in enumerate((10, 20, 5, 1))]
    operators = [operator(0, [0], [1]), operator(1, [1], [2]), operator(2, [2, 0], [3])]

    assert peak_activation([0], [3], tensors, operators) == (35, 1)


def test_constants_cost_no_activation_memory_and_variables_cost_it_always():
    tensors = [tensor(0), tensor(1, constant=True), tensor(2), tensor(3, size_bytes=100, variable=True), tensor(4)]
    operators = [operator(0, [0, 1, -1], [2]), operator(1, [2], [4])]

    assert peak_activation([0], [4], tensors, operators) == (108, 0)


def test_an_output_lives_to_the_end():
    tensors = [tensor(0), tensor(1, size_bytes=50), tensor(2, size_bytes=7)]
    operators = [operator(0, [0], [1]), operator(1, [0], [2])]

    assert peak_activation([0], [1, 2], tensors, operators) == (61, 1)


def test_a_graph_without_operators_has_no_peak():
    assert peak_activation([0], [0], [tensor(0)], []) == (0, -1)


def test_operators_are_counted_by_version_and_types_most_expensive_first():
    tensors = (tensor(0), tensor(1), tensor(2))
    operators = (
        operator(0, [0, -1], [1]),
        operator(1, [1, -1], [2]),
        operator(2, [0, 1], [-1], "CONV_2D", macs=9),
    )
    graph = SubgraphFacts("main", (0,), (2,), tensors, operators, 0, 0)

    convolution, addition = uses_of([graph])

    assert (convolution.name, convolution.outputs, convolution.macs, convolution.count) == ("CONV_2D", ("",), 9, 1)
    assert (addition.name, addition.inputs, addition.count) == ("ADD", ("float32", ""), 2)
