"""What was fused, and what stands alone and why, as a graph tells."""

import pytest

from edgeferry.converter.inspection.tflite_facts import (
    FusedOperator,
    OperatorFacts,
    OperatorKind,
    SubgraphFacts,
    TensorFacts,
)
from edgeferry.converter.inspection.tflite_fusion import fusion_of, layer_of

X = "x"  # the input of every graph


def graph(*operators: tuple, outputs: tuple[str, ...] = ()) -> SubgraphFacts:
    """Return a graph of operators ``(NAME, inputs, output, options)``.

    Beside the input there are constants: ``c`` and ``last/convolution`` of 8, and ``s``, a scalar.
    """
    names: list[str] = [X, "c", "s", "last/convolution"]
    made = []
    for at, (name, inputs, output, *more) in enumerate(operators):
        names.append(output)
        options = dict(more[0]) if more else {}
        made.append(
            OperatorFacts(
                at,
                name,
                OperatorKind.BUILTIN,
                1,
                tuple(-1 if one == "" else names.index(one) for one in inputs),
                (names.index(output),),
                activation=options.pop("activation", ""),
                fused=tuple(output.split(";")) if ";" in output else (),
                options=options,
            )
        )
    shapes = {"c": (8,), "s": (), "last/convolution": (8,)}
    tensors = tuple(
        TensorFacts(at, name, "float32", shapes.get(name, (1, 4, 4, 8)), 4, is_constant=name in shapes)
        for at, name in enumerate(names)
    )
    ends = tuple(names.index(one) for one in outputs) or (len(names) - 1,)
    return SubgraphFacts("main", (0,), ends, tensors, tuple(made), 0, -1)


CONV = ("CONV_2D", [X, "c", ""], "conv/convolution")


def alone(*operators: tuple, outputs: tuple[str, ...] = ()) -> list[tuple[str, str, str]]:
    found = fusion_of(graph(*operators, outputs=outputs)).unfused
    return [(one.operator, one.layer, one.reason) for one in found]


def test_layers_that_became_one_operator_are_told_in_the_order_in_which_they_work():
    name = "act/Relu;bn/batchnorm/add_1;conv/convolution;pad/Pad;bn/batchnorm/sub1;1"

    (fused,) = fusion_of(graph(("CONV_2D", [X, "c", ""], name, {"activation": "relu"}))).fused

    assert fused == FusedOperator(0, "CONV_2D", ("pad", "conv", "bn", "act"), "relu")


def test_an_activation_within_a_layer_is_told_and_a_layer_alone_is_not():
    found = fusion_of(
        graph(
            ("CONV_2D", [X, "c", ""], "first/Relu;first/convolution", {"activation": "relu"}),
            ("CONV_2D", ["first/Relu;first/convolution", "c", ""], "second/BiasAdd;second/convolution"),
            ("RESHAPE", ["second/BiasAdd;second/convolution", "s"], "flat/Reshape;other/Reshape"),
        )
    ).fused

    assert [(one.layers, one.activation) for one in found] == [(("first",), "relu")]


def test_what_computes_an_output_of_the_model_is_called_after_its_weights():
    facts = graph(("CONV_2D", [X, "last/convolution", ""], "StatefulPartitionedCall:0", {"activation": "relu"}))

    assert [(one.layers, one.activation) for one in fusion_of(facts).fused] == [(("last",), "relu")]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("StatefulPartitionedCall/net/bn/batchnorm/add_1", "net/bn"),
        ("sep/separable_conv2d/depthwise", "sep"),
        ("net/conv/BiasAdd/ReadVariableOp/resource", "net/conv"),
        ("Identity:0", "Identity"),
        ("batchnorm/add", "batchnorm"),
        ("", ""),
    ],
)
def test_a_layer_is_the_scope_without_what_is_inside_and_outside_of_it(name, layer):
    assert layer_of(name) == layer


def test_a_result_that_another_operator_uses_keeps_its_activation_apart():
    relu = ("RELU", ["conv/convolution"], "act/Relu")
    add = ("ADD", ["conv/convolution", "act/Relu"], "sum/Add")

    reason = "ADD (sum) uses the result of CONV_2D (conv) without it"
    assert alone(CONV, relu, add) == [("RELU", "act", reason)]


def test_a_result_that_is_an_answer_keeps_its_activation_apart():
    reason = "the result of CONV_2D (conv) without it is an output of the model"

    found = alone(CONV, ("RELU6", ["conv/convolution"], "act/Relu6"), outputs=("conv/convolution", "act/Relu6"))

    assert found == [("RELU6", "act", reason)]


def test_an_activation_needs_an_operator_before_it_that_can_apply_it():
    assert alone(("RELU", [X], "act/Relu"))[0][2].startswith("it works on an input of the model")
    softmax = ("SOFTMAX", [X], "share/Softmax")
    assert alone(softmax, ("RELU", ["share/Softmax"], "act/Relu"))[0][2] == "SOFTMAX (share) cannot apply an activation"
    active = ("CONV_2D", [X, "c", ""], "conv/Relu", {"activation": "relu"})
    assert alone(active, ("RELU6", ["conv/Relu"], "act/Relu6"))[0][2] == "CONV_2D (conv) applies relu already"


def test_what_the_converter_left_for_no_reason_is_told_as_that():
    (found,) = fusion_of(graph(CONV, ("RELU", ["conv/convolution"], "act/Relu"))).unfused

    assert (found.reason, found.remedy) == ("the converter left it beside CONV_2D (conv) and does not say why", "")


def test_other_activations_are_never_fused_and_only_some_could_be_replaced():
    found = fusion_of(
        graph(
            CONV,
            ("LEAKY_RELU", ["conv/convolution"], "leaky/LeakyRelu"),
            ("CONV_2D", ["leaky/LeakyRelu", "c", ""], "gate/convolution"),
            ("LOGISTIC", ["gate/convolution"], "gate/Sigmoid"),
            ("MUL", ["gate/convolution", "gate/Sigmoid"], "gate/mul"),
        )
    ).unfused

    assert [(one.operator, one.reason) for one in found] == [
        ("LEAKY_RELU", "CONV_2D (conv) can apply relu, relu6 and relu_n1_to_1 only"),
        ("LOGISTIC", "CONV_2D (gate) can apply relu, relu6 and relu_n1_to_1 only"),
    ]
    assert [bool(one.remedy) for one in found] == [True, False]


@pytest.mark.parametrize("last", [(), (("RESHAPE", ["scores/Sigmoid", "s"], "flat/Reshape"),)])
def test_what_makes_an_answer_of_the_last_layer_is_no_fault(last):
    assert alone(CONV, ("LOGISTIC", ["conv/convolution"], "scores/Sigmoid"), *last) == []


def test_a_normalization_behind_an_activation_is_told_once():
    active = ("CONV_2D", [X, "c", ""], "conv/Relu", {"activation": "relu"})
    scale = ("MUL", ["conv/Relu", "c"], "bn/batchnorm/mul_1")
    shift = ("ADD", ["bn/batchnorm/mul_1", "c"], "bn/batchnorm/add_1")

    assert alone(active, scale, shift) == [("MUL", "bn", "CONV_2D (conv) applies relu before it")]


def test_a_normalization_needs_weights_before_it():
    pool = ("MAX_POOL_2D", [X], "pool/MaxPool")
    scale = ("MUL", ["pool/MaxPool", "c"], "bn/mul")
    assert alone(pool, scale) == [("MUL", "bn", "MAX_POOL_2D (pool), before it, has no weights to fold it into")]
    assert alone(("SUB", [X, "s"], "scale/sub"))[0][2] == "it works on an input of the model, before any weights"


def test_a_normalization_that_could_be_folded_is_told_with_who_else_uses_the_result():
    scale = ("MUL", ["conv/convolution", "c"], "bn/mul")
    other = ("SOFTMAX", ["conv/convolution"], "other/Softmax")

    assert alone(CONV, scale, other)[0][2] == "SOFTMAX (other) uses the result of CONV_2D (conv) without it"


def test_a_sum_of_two_results_and_a_scalar_in_a_formula_are_no_normalization():
    assert alone(CONV, ("ADD", [X, "conv/convolution"], "sum/Add")) == []
    assert alone(CONV, ("MUL", ["conv/convolution", "s"], "half/mul")) == []
    assert alone(("ADD", ["c", "c"], "constant/Add")) == []


@pytest.mark.parametrize(("padding", "count"), [(1, 1), (0, 0)])
def test_padding_before_a_layer_that_does_not_pad_is_an_operator_of_its_own(padding, count):
    pad = ("PAD", [X, "c"], "pad/Pad")
    convolution = ("CONV_2D", ["pad/Pad", "c", ""], "conv/convolution", {"padding": padding})

    found = alone(pad, convolution)

    assert len(found) == count
    assert all("CONV_2D (conv), behind it, pads by 'valid'" in reason for _, _, reason in found)


def test_padding_that_two_layers_use_is_no_fault():
    pad = ("PAD", [X, "c"], "pad/Pad")
    layers = [("CONV_2D", ["pad/Pad", "c", ""], f"{name}/convolution", {"padding": 1}) for name in "ab"]

    assert alone(pad, *layers) == []
