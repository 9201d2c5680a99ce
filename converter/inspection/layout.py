"""From an `Inspection` to the page or the tree that people see. Pure."""

from typing import assert_never

from edgeferry.converter.errors import RequestError
from edgeferry.converter.inspection.facts import ArtifactFacts, Inspection
from edgeferry.converter.inspection.keras_facts import KerasFacts
from edgeferry.converter.inspection.keras_page import keras_facts_lines, keras_sections, keras_tree, keras_warnings
from edgeferry.converter.inspection.page import Branch, Page, Section, human_bytes
from edgeferry.converter.inspection.saved_model_facts import SavedModelFacts
from edgeferry.converter.inspection.saved_model_page import (
    saved_model_facts_lines,
    saved_model_sections,
    saved_model_tree,
    saved_model_warnings,
)
from edgeferry.converter.inspection.tflite_facts import TfliteFacts
from edgeferry.converter.inspection.tflite_page import (
    tflite_facts_lines,
    tflite_sections,
    tflite_tree,
    tflite_warnings,
)

__all__ = ["check_signature", "page_of", "title_of", "tree_of"]


def check_signature(inspection: Inspection, signature: str | None) -> None:
    """Do nothing when the model has ``signature``, or none is asked for.

    Raises:
        RequestError: It has other ones, or none at all.
    """
    known = _signatures(inspection)
    if signature is None or signature in known:
        return
    found = ", ".join(known) or "none"
    raise RequestError(f"{inspection.path}: has no signature {signature!r}; its signatures are: {found}")


def title_of(inspection: Inspection) -> str:
    """Return what the model is, in a line."""
    artifact = inspection.artifact
    what = (
        f"artifact {artifact.name} {artifact.version} for {artifact.profile}, {artifact.scheme}: " if artifact else ""
    )
    return f"{inspection.path}: {what}{inspection.title}, {human_bytes(inspection.size_bytes)}"


def page_of(inspection: Inspection, signature: str | None = None) -> Page:
    """Return everything that is said of the model; with ``signature``, of that one alone."""
    match inspection.details:
        case TfliteFacts() as facts:
            lines, warnings = tflite_facts_lines(facts), tflite_warnings(facts)
            sections = tflite_sections(facts, signature)
        case KerasFacts() as facts:
            lines, warnings = keras_facts_lines(facts), keras_warnings(facts)
            sections = keras_sections(facts)
        case SavedModelFacts() as facts:
            lines, warnings = saved_model_facts_lines(facts), saved_model_warnings(facts)
            sections = saved_model_sections(facts, signature)
        case _ as never:
            assert_never(never)
    if inspection.artifact:
        lines = [*_artifact_lines(inspection.artifact), *lines]
        sections = [*sections, _artifact_files(inspection.artifact)]
        warnings = [*(f"{one.path} {one.problem}" for one in inspection.artifact.files if one.problem), *warnings]
    return Page(title_of(inspection), tuple(lines), tuple(sections), tuple(warnings))


def tree_of(inspection: Inspection, signature: str | None = None) -> tuple[Branch, ...]:
    """Return the layers or operations of the model as a tree."""
    match inspection.details:
        case TfliteFacts() as facts:
            return tflite_tree(facts)
        case KerasFacts() as facts:
            return keras_tree(facts)
        case SavedModelFacts() as facts:
            return saved_model_tree(facts, signature)
        case _ as never:
            assert_never(never)


def _signatures(inspection: Inspection) -> list[str]:
    match inspection.details:
        case TfliteFacts() as facts:
            return [one.key for one in facts.signatures]
        case SavedModelFacts() as facts:
            return list(dict.fromkeys(one.key for graph in facts.meta_graphs for one in graph.signatures))
        case KerasFacts():
            return []
        case _ as never:
            assert_never(never)


def _artifact_lines(artifact: ArtifactFacts) -> list[tuple[str, str]]:
    lines = [("measured memory", human_bytes(artifact.memory_bytes))] if artifact.memory_bytes else []
    metric, samples = artifact.evaluation.get("metric"), artifact.evaluation.get("samples")
    scores = [artifact.evaluation.get(key) for key in ("candidate", "float")]
    if metric and samples and all(isinstance(score, int | float) for score in scores):
        lines.append((str(metric), f"{scores[0]:.4f} of {samples} samples; the float model {scores[1]:.4f}"))
    return lines


def _artifact_files(artifact: ArtifactFacts) -> Section:
    rows = tuple((one.role, one.path, human_bytes(one.size_bytes), one.problem or "ok") for one in artifact.files)
    return Section("Files of the artifact", ("role", "file", ">size", "compared with the manifest"), rows)
