"""How an inspection is laid out: sizes, shapes, trees, and what stands at a terminal."""

import sys

import pytest

from edgeferry.converter.inspection.face import print_page, print_tree
from edgeferry.converter.inspection.facts import ArtifactFacts, Inspection
from edgeferry.converter.inspection.keras_facts import KerasFacts, LayerFacts, TrainingFacts
from edgeferry.converter.inspection.keras_page import keras_facts_lines, keras_sections
from edgeferry.converter.inspection.layout import page_of
from edgeferry.converter.inspection.page import (
    Branch,
    Page,
    Section,
    counted,
    human_bytes,
    human_count,
    scope_tree,
    shape_text,
)
from edgeferry.converter.inspection.saved_model_facts import MetaGraphFacts, SavedModelFacts, Variable
from edgeferry.converter.inspection.saved_model_page import saved_model_sections, saved_model_tree, saved_model_warnings
from edgeferry.converter.inspection.tflite_facts import (
    FusedOperator,
    Fusion,
    OperatorFacts,
    OperatorKind,
    Quantization,
    SubgraphFacts,
    TensorFacts,
    TfliteFacts,
)
from edgeferry.converter.inspection.tflite_page import quantization_text, tflite_sections, tflite_tree


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")]
)
def test_sizes_are_told_in_powers_of_two(size, text):
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (12_345, "12,345"), (524_080_000, "524.08 M"), (3_100_000_000, "3.10 G")]
)
def test_counts_are_told_in_millions_and_billions(count, text):
    assert human_count(count) == text


def test_one_and_none_are_told_as_people_do():
    assert [counted(0, "layer"), counted(1, "layer"), counted(1200, "layer")] == [
        "no layers",
        "1 layer",
        "1,200 layers",
    ]


def test_shapes_are_told_with_open_dimensions_and_no_longer_than_a_line():
    assert shape_text((-1, 8)) == "[?, 8]"
    assert shape_text(None) == "unknown rank"
    assert shape_text((1,) * 9) == "[1, 1, 1, 1, 1, 1, 1, 1, ...]"


def test_operations_are_a_tree_by_their_scopes():
    names = [
        "net/conv/Conv2D: Conv2D",
        "net/conv/Conv2D/ReadVariableOp: ReadVariableOp",
        "net/relu/Relu: Relu",
        "x: Mul",
    ]

    assert scope_tree(names) == (
        Branch(
            "net",
            "3 operations",
            (
                Branch("conv/Conv2D", "Conv2D, with 1 operation", (Branch("ReadVariableOp"),)),
                Branch("relu/Relu"),
            ),
        ),
        Branch("x", "Mul"),
    )


PAGE = Page(
    "a model",
    (("weights", "3 B"),),
    (Section("Table", ("!name", ">size"), (("[bold]", "1"),), "a note"), Section("Empty", ("a",), ())),
    ("mind the gap",),
)
TREE = (Branch("a", "one", (Branch("b"),)), Branch("c"))


def test_a_page_is_plain_text_in_a_pipe(capsys):
    print_page(PAGE)

    assert capsys.readouterr().out == (
        "a model\n  weights:  3 B\n\nTable\n  name    size\n  [bold]     1\n  (a note)\n\n! mind the gap\n"
    )


def test_a_tree_is_plain_text_in_a_pipe(capsys):
    print_tree("root", TREE)

    assert capsys.readouterr().out == "root\n|-- a  (one)\n|   `-- b\n`-- c\n"


def test_a_name_in_a_model_does_nothing_to_the_terminal(capsys):
    print_page(Page("m", (("name", "a\x1b[2Jb"),), (Section("T", ("a",), (("x\ny",),)),), ("\x07",)))
    print_tree("m", (Branch("\x1b]0;title", "\r", (Branch("\u202e"),)),))

    shown = capsys.readouterr().out
    assert "a\\x1b[2Jb" in shown
    assert "x\\ny" in shown
    assert "\\u202e" in shown
    assert not set(shown) & set("\x1b\x07\r\u202e")


def test_at_a_terminal_texts_are_shown_as_they_are(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")

    print_page(PAGE)
    print_tree("root", TREE)

    shown = capsys.readouterr().out
    assert "[bold]" in shown
    assert "Empty" not in shown
    assert "! mind the gap" in shown
    assert "└── b" in shown


def graph(**changes) -> MetaGraphFacts:
    facts = {
        "tags": (),
        "tensorflow_version": "",
        "git_version": "",
        "signatures": (),
        "operations": {},
        "functions": (),
        "variables": (),
        "assets": (),
        "scopes": {},
        "keras": None,
    }
    return MetaGraphFacts(**{**facts, **changes})


def test_a_saved_model_without_a_signature_cannot_be_converted():
    facts = SavedModelFacts(1, True, (graph(),), 0)

    assert saved_model_warnings(facts) == [
        "has no signature, so nothing of it can be converted; save it with signatures="
    ]
    assert saved_model_tree(facts, None) == (Branch("no signature", "no operations"),)


def test_operations_that_reach_out_of_the_model_are_told():
    facts = SavedModelFacts(1, True, (graph(operations={"ReadFile": 1, "WriteFile": 2, "PyFunc": 1}),), 0)

    _, files, code = saved_model_warnings(facts)

    assert files == "has operations that read or write files or print: ReadFile, WriteFile; run it only if you trust it"
    assert code == "calls Python code that is not in the file (PyFunc), so it cannot be converted"


def test_many_graphs_and_variables_are_told_apart_and_cut():
    variables = tuple(Variable(f"v{at}", "string", None, None) for at in range(50))
    facts = SavedModelFacts(1, False, (graph(tags=("serve",), variables=variables), graph(tags=("train",))), 0)

    sections = {section.title: section for section in saved_model_sections(facts, None)}

    assert len(sections["Variables of serve"].rows) == 40
    assert sections["Variables of serve"].rows[0] == ("v0", "string", "unknown rank", "?", "")
    assert sections["Variables of serve"].note == "and 10 more, which --json tells"
    assert page_of(Inspection("m", "saved_model", "SavedModel", 1, facts)).facts[0] == (
        "kind",
        "TensorFlow 1 (a graph), 2 graphs",
    )


def keras(**changes) -> KerasFacts:
    facts = {
        "class_name": "Sequential",
        "name": "net",
        "keras_version": "",
        "backend": "",
        "saved_at": "",
        "inputs": (),
        "outputs": (),
        "layers": (),
        "training": None,
        "parameters": 0,
        "parameter_bytes": 0,
        "trainable_parameters": 0,
    }
    return KerasFacts(**{**facts, **changes})


def test_training_is_told_whatever_keras_wrote():
    training = TrainingFacts("Adam", {"learning_rate": {"class_name": "Decay"}}, loss={"a": "mse"}, metrics=["x", "y"])

    lines = dict(keras_facts_lines(keras(training=training)))
    bare = dict(keras_facts_lines(keras(training=TrainingFacts("", {}))))

    assert (lines["optimizer"], lines["loss"], lines["metrics"]) == ("Adam", '{"a": "mse"}', "x, y")
    assert bare["optimizer"] == "none"
    assert "loss" not in bare
    assert bare["written by"] == "a Keras that does not say"


def test_long_values_of_a_layer_are_cut():
    layer = LayerFacts(
        "a", "A", config={"activation": "x" * 200, "size": {"class_name": "B"}, "units": 3, "strides": [2, 1]}
    )

    row = keras_sections(keras(layers=(layer,)))[1].rows[0]

    assert row[4] == f"units 3, strides 2x1, activation {'x' * 100}..., size B"


def tflite(operators: int, **changes) -> TfliteFacts:
    """Return a chain of operators, each of which calls the first subgraph again."""
    tensors = tuple(
        TensorFacts(at, f"{'long/' * 20}a{at};b{at}", "int8", (1,), 1, Quantization((0.5, 0.25), (0, 0), 3))
        for at in range(operators + 1)
    )
    chain = tuple(
        OperatorFacts(
            at,
            "CONV_2D",
            OperatorKind.BUILTIN,
            1,
            (at,),
            (at + 1,),
            5,
            7,
            subgraphs=(0, 9),
        )
        for at in range(operators)
    )
    silent = OperatorFacts(operators, "PRINT", OperatorKind.BUILTIN, 1, (), (), weight_bytes=1)
    graphs = (SubgraphFacts("", (0,), (operators,), tensors, (*chain, silent), 9, 0),)
    facts = {
        "schema_version": 3,
        "description": "",
        "subgraphs": graphs,
        "signatures": (),
        "metadata": (),
        "uses": (),
        "custom_operators": (),
        "flex_operators": (),
        "weight_bytes": 0,
        "macs": 0,
        "peak_activation_bytes": 9,
        "fusion": Fusion(
            tuple(FusedOperator(at, "CONV_2D", (f"x/a{at}", f"b{at}"), "relu") for at in range(operators))
        ),
    }
    return TfliteFacts(**{**facts, **changes})


def test_long_lists_of_operators_are_cut_with_a_word_where_the_rest_is():
    sections = {section.title: section for section in tflite_sections(tflite(30), None)}

    assert len(sections["Most expensive operators"].rows) == 12
    assert sections["Most expensive operators"].note == "the first 12 of 31; --tree and --json tell all"
    assert sections["Most expensive operators"].rows[0][-1].startswith("...")
    assert sections["What was fused"].note.startswith("and 10 more, which --json tells; ")


def test_a_subgraph_that_calls_itself_is_shown_once():
    (root,) = tflite_tree(tflite(1))

    assert [branch.children for branch in root.children] == [(), ()]


def test_quantization_per_channel_is_told_by_its_range():
    assert quantization_text(Quantization((0.5, 0.25), (0, 0), 3)) == "2 scales along axis 3, 0.25 to 0.5"


def test_an_artifact_tells_what_was_measured_where_that_is_numbers():
    def lines(**evaluation):
        artifact = ArtifactFacts("a", 1, "p", "int8", (), 0, evaluation)
        return dict(page_of(Inspection("m", "tflite", "TensorFlow Lite model", 1, tflite(1), artifact)).facts)

    told = lines(metric="accuracy", samples=60, candidate=0.5, float=1)
    odd = lines(metric="accuracy", samples=60, candidate="x", float=1)

    assert told["accuracy"] == "0.5000 of 60 samples; the float model 1.0000"
    assert "accuracy" not in odd
    assert "measured memory" not in told
