"""Which operations tensors of a graph need, functions included."""

from collections import Counter

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.saved_model_graph import Graph


def graph_def():
    """Return x -> twice(f) -> y, where f has a loop whose body calls f again, and g is listed as a branch."""
    graph = protobufs.saved_model().SavedModel().meta_graphs.add().graph_def
    graph.node.add(name="x", op="Placeholder")
    call = graph.node.add(name="call", op="StatefulPartitionedCall", input=["x", "^gone"])
    call.attr["f"].func.name = "f"
    case = graph.node.add(name="case", op="Case", input=["call:1", "x"])
    for name in ("g", "unknown"):
        case.attr["branches"].list.func.add(name=name)
    graph.node.add(name="direct", op="g", input=["case"])
    graph.node.add(name="y", op="Identity", input=["case", "direct"])
    graph.node.add(name="save", op="SaveV2")
    outer = graph.library.function.add()
    outer.signature.name = "f"
    outer.node_def.add(name="net/mul", op="Mul")
    outer.node_def.add(name="again", op="While").attr["body"].func.name = "f"
    inner = graph.library.function.add()
    inner.signature.name = "g"
    inner.node_def.add(name="net/add", op="AddV2")
    return graph


def test_what_is_needed_counts_a_function_as_often_as_it_is_called():
    graph = Graph(graph_def())

    assert graph.operations_needed(["y:0"]) == Counter(
        {"AddV2": 2, "Identity": 1, "Case": 1, "Placeholder": 1, "Mul": 1, "While": 1}
    )
    assert graph.names_needed(["y"]) == [
        "again: While",
        "case: Case",
        "net/add: AddV2",
        "net/mul: Mul",
        "x: Placeholder",
        "y: Identity",
    ]


def test_an_operation_is_found_by_its_names_in_graph_and_functions():
    graph = Graph(graph_def())

    assert graph.names_of("AddV2") == ["net/add"]
    assert graph.names_of("Identity") == ["y"]
    assert graph.names_of("Abort") == []


def test_all_operations_count_a_function_once():
    assert Graph(graph_def()).all_operations() == Counter(
        {"Placeholder": 1, "Case": 1, "Identity": 1, "SaveV2": 1, "Mul": 1, "While": 1, "AddV2": 1}
    )


def test_functions_that_call_each_other_twice_are_counted_in_no_time():
    graph = protobufs.saved_model().SavedModel().meta_graphs.add().graph_def
    graph.node.add(name="y", op="f0")
    for depth in range(200):
        function = graph.library.function.add()
        function.signature.name = f"f{depth}"
        function.node_def.add(name="a", op=f"f{depth + 1}")
        function.node_def.add(name="b", op=f"f{depth + 1}" if depth < 199 else "Mul")

    assert Graph(graph).operations_needed(["y"])["Mul"] == 2**199
