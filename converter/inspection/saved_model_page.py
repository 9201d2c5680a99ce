"""How a SavedModel is laid out for people. Pure."""

from edgeferry.converter.inspection.keras_page import keras_facts_lines, keras_sections
from edgeferry.converter.inspection.page import Branch, Section, counted, human_bytes, scope_tree, shape_text
from edgeferry.converter.inspection.saved_model_facts import MetaGraphFacts, SavedModelFacts, Signature

__all__ = ["saved_model_facts_lines", "saved_model_sections", "saved_model_tree", "saved_model_warnings"]

_LISTED_VARIABLES = 40
_LISTED_SIGNATURES = 4
_TELLING_OPERATIONS = {
    (
        "PrintV2",
        "ReadFile",
        "WriteFile",
    ): "has operations that read or write files or print: {}; run it only if you trust it",
    (
        "EagerPyFunc",
        "PyFunc",
        "PyFuncStateless",
    ): "calls Python code that is not in the file ({}), so it cannot be converted",
}


def saved_model_facts_lines(facts: SavedModelFacts) -> list[tuple[str, str]]:
    """Return what can be said of the model in a line each."""
    generation = "TensorFlow 2 (objects and functions)" if facts.is_tensorflow_2 else "TensorFlow 1 (a graph)"
    lines = [("kind", f"{generation}, {counted(len(facts.meta_graphs), 'graph')}")]
    for graph in facts.meta_graphs:
        lines += [
            ("tags", ", ".join(graph.tags) or "none"),
            ("written by", f"TensorFlow {graph.tensorflow_version or 'of unknown version'}"),
            ("variables", _variables_line(graph)),
        ]
        if graph.keras:
            lines += [("keras", value) if label == "model" else (label, value) for label, value in _keras_lines(graph)]
    return lines


def saved_model_sections(facts: SavedModelFacts, signature: str | None) -> list[Section]:
    """Return the tables; of all signatures, or of the one that is asked for."""
    sections = []
    for graph in facts.meta_graphs:
        of = f" of {', '.join(graph.tags)}" if len(facts.meta_graphs) > 1 else ""
        chosen = [one for one in graph.signatures if signature is None or one.key == signature]
        sections += [
            _signatures(of, chosen),
            _operations(of, chosen, graph),
            _functions(of, graph),
            _variables(of, graph),
            _assets(of, graph),
            *(keras_sections(graph.keras)[1:2] if graph.keras else []),
        ]
    return sections


def saved_model_warnings(facts: SavedModelFacts) -> list[str]:
    """Return what is wrong with the files, and what a converter may stumble over."""
    warnings = list(facts.problems)
    if not any(graph.signatures for graph in facts.meta_graphs):
        warnings.append("has no signature, so nothing of it can be converted; save it with signatures=")
    found = {operation for graph in facts.meta_graphs for operation in graph.operations}
    for operations, sentence in _TELLING_OPERATIONS.items():
        if not found.isdisjoint(operations):
            warnings.append(sentence.format(", ".join(sorted(found.intersection(operations)))))
    return warnings


def saved_model_tree(facts: SavedModelFacts, signature: str | None) -> tuple[Branch, ...]:
    """Return the operations that a signature needs, by their scopes."""
    branches = []
    for graph in facts.meta_graphs:
        key = signature if signature is not None else next((one.key for one in graph.signatures), "no signature")
        scopes = graph.scopes.get(key, ())
        branches.append(Branch(key, counted(len(scopes), "operation"), scope_tree(scopes)))
    return tuple(branches)


def _keras_lines(graph: MetaGraphFacts) -> list[tuple[str, str]]:
    return [line for line in keras_facts_lines(graph.keras) if line[0] != "written by"] if graph.keras else []


def _variables_line(graph: MetaGraphFacts) -> str:
    total = sum(one.size_bytes or 0 for one in graph.variables)
    return f"{len(graph.variables):,}, {human_bytes(total)}" if graph.variables else "none"


def _signatures(of: str, signatures: list[Signature]) -> Section:
    methods = ", ".join(dict.fromkeys(one.method for one in signatures if one.method))
    columns = ("!signature", "", "!name", "type", "!shape", "tensor")
    return Section(f"Signatures{of}", columns, _ports(signatures), f"called by {methods}" if methods else "")


def _ports(signatures: list[Signature]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for one in signatures:
        key = one.key
        for direction, ports in (("in", one.inputs), ("out", one.outputs)):
            for port in ports:
                rows.append((key, direction, port.name, port.type, shape_text(port.shape), port.tensor))
                key = ""
    return tuple(rows)


def _operations(of: str, signatures: list[Signature], graph: MetaGraphFacts) -> Section:
    """Return how often each signature needs each operation; signatures that need the same share a column."""
    columns: list[tuple[list[str], dict[str, int]]] = []
    for one in signatures:
        same = next((keys for keys, operations in columns if operations == one.operations), None)
        if same is None:
            columns.append(([one.key], one.operations))
        else:
            same.append(one.key)
    columns = columns[:_LISTED_SIGNATURES]
    names = dict.fromkeys(name for _, operations in columns for name in operations)
    rows = tuple((name, *(str(operations.get(name, "")) for _, operations in columns)) for name in names)
    total = sum(graph.operations.values())
    note = f"{total:,} operations of {len(graph.operations)} kinds stand in the file, saving and restoring included"
    return Section(f"Operations{of}", ("operation", *(f">{', '.join(keys)}" for keys, _ in columns)), rows, note)


def _functions(of: str, graph: MetaGraphFacts) -> Section:
    rows = tuple((one.name if at == 0 else "", call) for one in graph.functions for at, call in enumerate(one.calls))
    return Section(f"Functions{of}", ("function", "traced for"), rows)


def _variables(of: str, graph: MetaGraphFacts) -> Section:
    rows = tuple(
        (
            one.name,
            one.type,
            shape_text(one.shape),
            "?" if one.size_bytes is None else human_bytes(one.size_bytes),
            "" if one.is_trainable else "not trainable",
        )
        for one in graph.variables[:_LISTED_VARIABLES]
    )
    hidden = len(graph.variables) - len(rows)
    note = f"and {hidden:,} more, which --json tells" if hidden else ""
    return Section(f"Variables{of}", ("variable", "type", "shape", ">bytes", ""), rows, note)


def _assets(of: str, graph: MetaGraphFacts) -> Section:
    sizes = (("missing" if one.size_bytes is None else human_bytes(one.size_bytes)) for one in graph.assets)
    return Section(f"Assets{of}", ("file", ">size"), tuple(zip((one.path for one in graph.assets), sizes, strict=True)))
