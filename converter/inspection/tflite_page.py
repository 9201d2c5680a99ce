"""How a ``.tflite`` is laid out for people. Pure."""

from collections.abc import Callable, Iterable

from edgeferry.converter.inspection.page import Branch, Section, counted, human_bytes, human_count, shape_text
from edgeferry.converter.inspection.tflite_facts import (
    Fusion,
    OperatorFacts,
    OperatorKind,
    Quantization,
    SubgraphFacts,
    TensorFacts,
    TfliteFacts,
    TfliteSignature,
)

__all__ = ["quantization_text", "tflite_facts_lines", "tflite_sections", "tflite_tree", "tflite_warnings"]

_LISTED = 12  # of expensive operators; all of them stand in the tree and in JSON
_LISTED_FUSIONS = 20
_LONGEST_NAME = 60


def tflite_facts_lines(facts: TfliteFacts) -> list[tuple[str, str]]:
    """Return what can be said of the model in a line each."""
    main = facts.subgraphs[0]
    operators = sum(len(graph.operators) for graph in facts.subgraphs)
    where = f" at #{main.peak_operator} {main.operators[main.peak_operator].name}" if main.operators else ""
    tensors = sum(len(graph.tensors) for graph in facts.subgraphs)
    more = f" in {counted(len(facts.subgraphs), 'subgraph')}" if len(facts.subgraphs) > 1 else ""
    return [
        ("written by", facts.description or "a converter that does not say"),
        ("operators", f"{operators:,}, {counted(tensors, 'tensor')}{more}"),
        ("weights", human_bytes(facts.weight_bytes)),
        ("multiply-adds", human_count(facts.macs)),
        ("peak activation memory", f"{human_bytes(facts.peak_activation_bytes)}{where}"),
    ]


def tflite_sections(facts: TfliteFacts, signature: str | None) -> list[Section]:
    """Return the tables; of all signatures, or of the one that is asked for."""
    main = facts.subgraphs[0]
    ports = [row for one in _signatures(facts, signature) for row in _ports(one, facts)]
    rows = ports or _bare_ports(main)
    return [
        Section("Inputs and outputs", ("!signature", "", "name", "type", "!shape", "quantization"), tuple(rows)),
        _operators(facts),
        _expensive(main),
        _quantized(facts.subgraphs),
        _fused(facts.fusion),
        _unfused(facts.fusion),
        Section(
            "Metadata",
            ("name", ">size", "content"),
            tuple((one.name, human_bytes(one.size_bytes), one.text) for one in facts.metadata),
        ),
    ]


def tflite_warnings(facts: TfliteFacts) -> list[str]:
    """Return what a runtime may stumble over."""
    warnings = []
    if facts.flex_operators:
        warnings.append(f"needs TensorFlow's own operations (select TF ops): {', '.join(facts.flex_operators)}")
    if facts.custom_operators:
        warnings.append(f"needs custom operators: {', '.join(facts.custom_operators)}")
    if any(-1 in tensor.shape for tensor in facts.subgraphs[0].tensors):
        warnings.append("has open dimensions; memory and multiply-adds are those of the shapes as they are stored")
    return warnings


def tflite_tree(facts: TfliteFacts) -> tuple[Branch, ...]:
    """Return the operators in the order in which they run; those of a loop or branch below the one that calls them."""
    called = {at for graph in facts.subgraphs for operator in graph.operators for at in operator.subgraphs}
    roots = [at for at in range(len(facts.subgraphs)) if at == 0 or at not in called]
    return tuple(_graph_branch(at, facts.subgraphs, frozenset()) for at in roots)


def quantization_text(found: Quantization | None) -> str:
    """Return scale and zero point, or how many there are; empty for a tensor that is not quantized."""
    if found is None:
        return ""
    if len(found.scales) == 1:
        return f"scale {found.scales[0]:.6g}, zero point {found.zero_points[0]}"
    return f"{len(found.scales)} scales along axis {found.axis}, {min(found.scales):.3g} to {max(found.scales):.3g}"


def _signatures(facts: TfliteFacts, wanted: str | None) -> list[TfliteSignature]:
    return [one for one in facts.signatures if wanted is None or one.key == wanted]


def _ports(signature: TfliteSignature, facts: TfliteFacts) -> Iterable[tuple[str, ...]]:
    tensors = facts.subgraphs[signature.subgraph].tensors
    key = signature.key
    for direction, ports in (("in", signature.inputs), ("out", signature.outputs)):
        for name, index in ports.items():
            yield (key, direction, name, *_described(tensors[index]))
            key = ""


def _bare_ports(graph: SubgraphFacts) -> list[tuple[str, ...]]:
    ports = [("in", index) for index in graph.inputs] + [("out", index) for index in graph.outputs]
    return [("", direction, graph.tensors[at].name, *_described(graph.tensors[at])) for direction, at in ports]


def _described(tensor: TensorFacts) -> tuple[str, str, str]:
    return tensor.type, shape_text(tensor.shape), quantization_text(tensor.quantization)


def _operators(facts: TfliteFacts) -> Section:
    rows = tuple(
        (
            use.name if use.kind is OperatorKind.BUILTIN else f"{use.name} ({use.kind})",
            str(use.version),
            f"{_types(use.inputs)} -> {_types(use.outputs)}",
            str(use.count),
            human_bytes(use.weight_bytes) if use.weight_bytes else "",
            human_count(use.macs) if use.macs else "",
            f"{use.macs / facts.macs:.0%}" if use.macs else "",
        )
        for use in facts.uses
    )
    return Section(
        "Operators", ("!operator", ">version", "types", ">count", ">weights", ">multiply-adds", ">share"), rows
    )


def _types(types: Iterable[str]) -> str:
    """Return types with repetitions told by number: ``2 x int8, int32``."""
    parts: list[tuple[str, int]] = []
    for kind in (kind or "nothing" for kind in types):
        if parts and parts[-1][0] == kind:
            parts[-1] = (kind, parts[-1][1] + 1)
        else:
            parts.append((kind, 1))
    return ", ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in parts) or "nothing"


def _expensive(graph: SubgraphFacts) -> Section:
    costly = sorted(graph.operators, key=lambda one: (-one.macs, -one.weight_bytes, one.index))
    costly = [one for one in costly if one.macs or one.weight_bytes][:_LISTED]
    rows = tuple(
        (
            f"#{one.index}",
            one.name,
            _output(one, graph, lambda tensor: shape_text(tensor.shape)),
            human_bytes(one.weight_bytes) if one.weight_bytes else "",
            human_count(one.macs) if one.macs else "",
            _output(one, graph, _short_name),
        )
        for one in costly
    )
    note = f"the first {_LISTED} of {len(graph.operators)}; --tree and --json tell all" if len(rows) == _LISTED else ""
    return Section(
        "Most expensive operators", (">", "!operator", "!output", ">weights", ">multiply-adds", "computes"), rows, note
    )


def _output(operator: OperatorFacts, graph: SubgraphFacts, tell: Callable[[TensorFacts], str]) -> str:
    return tell(graph.tensors[operator.outputs[0]]) if operator.outputs else ""


def _short_name(tensor: TensorFacts) -> str:
    """Return the last of the source's operations that a tensor is named after, cut at its front where it is long."""
    name = tensor.name.split(";")[0]
    return name if len(name) <= _LONGEST_NAME else f"...{name[-_LONGEST_NAME:]}"


def _quantized(graphs: Iterable[SubgraphFacts]) -> Section:
    counts: dict[tuple[str, str, str], tuple[int, int]] = {}
    for tensor in (tensor for graph in graphs for tensor in graph.tensors):
        key = ("weights" if tensor.is_constant else "activations", tensor.type, _granularity(tensor.quantization))
        count, size_bytes = counts.get(key, (0, 0))
        counts[key] = (count + 1, size_bytes + tensor.size_bytes)
    rows = tuple(
        (*key, str(count), human_bytes(size_bytes))
        for key, (count, size_bytes) in sorted(counts.items(), key=lambda one: (one[0][0], -one[1][1]))
    )
    return Section("Tensors", ("", "type", "quantized", ">count", ">bytes"), rows)


def _granularity(found: Quantization | None) -> str:
    if found is None:
        return ""
    return "per tensor" if len(found.scales) == 1 else f"per channel (axis {found.axis})"


def _fused(fusion: Fusion) -> Section:
    told = fusion.fused[:_LISTED_FUSIONS]
    rows = tuple((f"#{one.index}", one.operator, " + ".join(one.layers), one.activation) for one in told)
    note = "as the names of tensors tell, which a converter need not leave"
    return Section(
        "What was fused",
        (">", "!operator", "does the work of", "activation"),
        rows,
        _more(len(fusion.fused), len(rows)) + note,
    )


def _unfused(fusion: Fusion) -> Section:
    told = fusion.unfused[:_LISTED_FUSIONS]
    rows = tuple((f"#{one.index}", one.operator, one.layer, one.reason, one.remedy) for one in told)
    columns = (">", "!operator", "layer", "stands alone because", "what would help")
    return Section("What was not fused", columns, rows, _more(len(fusion.unfused), len(rows)).removesuffix("; "))


def _more(all_of_them: int, shown: int) -> str:
    return f"and {all_of_them - shown} more, which --json tells; " if all_of_them > shown else ""


def _graph_branch(at: int, graphs: tuple[SubgraphFacts, ...], above: frozenset[int]) -> Branch:
    graph = graphs[at]
    aside = f"{counted(len(graph.operators), 'operator')}, peak {human_bytes(graph.peak_activation_bytes)}"
    children = tuple(_operator_branch(one, graphs, at, above | {at}) for one in graph.operators)
    return Branch(graph.name or f"subgraph {at}", aside, children)


def _operator_branch(
    operator: OperatorFacts, graphs: tuple[SubgraphFacts, ...], at: int, above: frozenset[int]
) -> Branch:
    graph = graphs[at]
    shapes = " ".join(f"{graph.tensors[one].type}{shape_text(graph.tensors[one].shape)}" for one in operator.outputs)
    costs = [
        f"+ {operator.activation}" if operator.activation else "",
        f"{human_count(operator.macs)} multiply-adds" if operator.macs else "",
        f"{human_bytes(operator.weight_bytes)} weights" if operator.weight_bytes else "",
        _output(operator, graph, _short_name),
    ]
    below = tuple(
        _graph_branch(one, graphs, above) for one in operator.subgraphs if one not in above and 0 <= one < len(graphs)
    )
    return Branch(f"#{operator.index} {operator.name} -> {shapes}", ", ".join(filter(None, costs)), below)
