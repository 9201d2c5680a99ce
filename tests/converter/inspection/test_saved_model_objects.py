"""Functions and variables of a SavedModel's objects, from protocol buffers written by hand."""

import pytest

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.saved_model_objects import functions_of, type_name, variables_of_objects

FLOAT, STRING = 1, 7


@pytest.fixture
def objects():
    """Return an object graph with a root, a function on it, and children that lead nowhere."""
    graph = protobufs.saved_model().SavedModel().meta_graphs.add().object_graph_def
    root = graph.nodes.add()
    for node_id, name in ((1, "call"), (2, "bare"), (3, "weights"), (99, "gone")):
        root.children.add(node_id=node_id, local_name=name)
    graph.nodes.add().function.concrete_functions.extend(["f", "missing"])
    graph.nodes.add().bare_concrete_function.concrete_function_name = "f"
    variable = graph.nodes.add().variable
    variable.name, variable.dtype, variable.trainable = "w", FLOAT, True
    variable.shape.dim.add(size=2)
    variable.shape.dim.add(size=3)
    return graph


def spec(value, *sizes: int, name: str = "") -> None:
    value.tensor_spec_value.dtype, value.tensor_spec_value.name = FLOAT, name
    for size in sizes:
        value.tensor_spec_value.shape.dim.add(size=size)


def test_a_function_is_told_with_everything_that_it_was_traced_for(objects):
    function = objects.concrete_functions["f"]
    arguments, keywords = (function.canonicalized_input_signature.tuple_value.values.add() for _ in range(2))
    spec(arguments.tuple_value.values.add(), -1, 8, name="x")
    pair = arguments.tuple_value.values.add().named_tuple_value.values.add()
    pair.key = "left"
    spec(pair.value, 2)
    arguments.tuple_value.values.add().bool_value = True
    arguments.tuple_value.values.add().none_value.SetInParent()
    arguments.tuple_value.values.add().tensor_shape_value.dim.add(size=4)
    listed = arguments.tuple_value.values.add().list_value
    listed.values.add().int64_value = 3
    keywords.dict_value.fields["mode"].string_value = "fast"
    unknown = function.output_signature.tensor_spec_value
    unknown.dtype, unknown.name, unknown.shape.unknown_rank = STRING, "unknown", True

    told = {one.name: one.calls for one in functions_of(objects)}

    call = "(x: float32[?, 8], {left: float32[2]}, True, None, tensor_shape, (3), mode='fast') -> string[unknown rank]"
    assert told == {"call": (call,), "bare": (call,)}


def test_a_signature_that_is_no_pair_of_arguments_and_keywords_is_told_as_it_is(objects):
    function = objects.concrete_functions["f"]
    spec(function.canonicalized_input_signature, 2, name="x")
    function.output_signature.none_value.SetInParent()

    assert functions_of(objects)[0].calls == ("(x: float32[2]) -> None",)


def test_variables_are_told_as_far_as_they_are_known(objects):
    text = objects.nodes.add().variable
    text.name, text.dtype = "words", STRING
    text.shape.dim.add(size=5)
    open_ended = objects.nodes.add().variable
    open_ended.name, open_ended.dtype = "open", FLOAT
    open_ended.shape.dim.add(size=-1)
    objects.nodes.add().variable.shape.unknown_rank = True

    told = [(one.name, one.shape, one.size_bytes) for one in variables_of_objects(objects)]

    assert told == [("w", (2, 3), 24), ("words", (5,), None), ("open", (-1,), None), ("", None, None)]


def test_a_saved_model_of_tensorflow_1_has_no_objects():
    empty = protobufs.saved_model().SavedModel().meta_graphs.add().object_graph_def

    assert functions_of(empty) == ()
    assert variables_of_objects(empty) == ()


@pytest.mark.parametrize(
    ("number", "name"), [(1, "float32"), (101, "float32"), (19, "float16"), (7, "string"), (88, "type_88")]
)
def test_types_are_told_as_python_spells_them(number, name):
    assert type_name(number) == name
