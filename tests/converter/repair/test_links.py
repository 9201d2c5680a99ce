"""Links are found where a channel's scale can move, and nowhere else."""

from collections.abc import Callable
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgeferry.converter.repair.graph import FloatGraph
from edgeferry.converter.repair.links import find_links

from .conftest import Net

RELU6 = schema.ActivationFunctionType.RELU6


def links_of(net: Net, change: Callable[[Any], None] = lambda model: None) -> list[tuple[str, str, int, int]]:
    """Return the links of the net after ``change``: names of both layers' outputs, channels, spread."""
    model = flatbuffer_utils.read_model(str(net.path))
    change(model)
    graph = FloatGraph(model)
    return [(graph.layer(one.first), graph.layer(one.second), one.channels, one.spread) for one in find_links(graph)]


def tensor_named(model: Any, name: str) -> int:
    return next(at for at, tensor in enumerate(model.subgraphs[0].tensors) if tensor.name == name.encode())


def test_convolutions_pooling_and_flattening_are_linked(plain: Net) -> None:
    assert links_of(plain) == [("first", "second", 8, 1), ("second", "third", 8, 1), ("third", "scores", 12, 16)]


def test_an_activation_with_a_ceiling_ends_a_link(plain: Net) -> None:
    def limit(model: Any) -> None:
        model.subgraphs[0].operators[1].builtinOptions.fusedActivationFunction = RELU6

    assert [first for first, *_ in links_of(plain, limit)] == ["first", "third"]


def test_a_tensor_that_is_an_output_too_ends_a_link(plain: Net) -> None:
    def give_out(model: Any) -> None:
        main = model.subgraphs[0]
        main.outputs = [*main.outputs, tensor_named(model, "pooled")]

    assert [first for first, *_ in links_of(plain, give_out)] == ["first", "third"]


def test_a_tensor_that_two_layers_read_ends_a_link(plain: Net) -> None:
    def read_twice(model: Any) -> None:
        operators = model.subgraphs[0].operators
        operators[3].inputs = [tensor_named(model, "second"), *operators[3].inputs[1:]]

    assert [first for first, *_ in links_of(plain, read_twice)] == ["first", "third"]


def test_a_bias_of_zeros_may_be_shared(plain: Net) -> None:
    def share(model: Any) -> None:
        tensors, buffers = model.subgraphs[0].tensors, model.buffers
        buffers[tensors[tensor_named(model, "b0")].buffer].data = bytes(8 * 4)
        tensors[tensor_named(model, "b1")].buffer = tensors[tensor_named(model, "b0")].buffer

    assert [first for first, *_ in links_of(plain, share)] == ["first", "second", "third"]


@pytest.mark.parametrize("constant", ["w1", "b0"])
def test_weights_that_two_tensors_share_are_left_alone(plain: Net, constant: str) -> None:
    def share(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        tensors[tensor_named(model, "shape")].buffer = tensors[tensor_named(model, constant)].buffer

    assert "first" not in [first for first, *_ in links_of(plain, share)]
