"""The section that tells how the quantized model's answers differ from the float model's."""

from collections.abc import Sequence

from edgeferry.converter.html.answers import errors_plot, matrix_plot
from edgeferry.converter.html.element import Child, Markup, element, joined
from edgeferry.converter.html.parts import Data, section, table
from edgeferry.converter.html.words import counted

__all__ = ["answers_section"]

_MAX_DRAWN_CLASSES = 30  # more cells than a page shows


def answers_section(report: Data) -> Markup:
    """Return the section; empty where nothing was looked into."""
    parts: list[Child] = []
    for scheme, look in report["looks"].items():
        answers = look["answers"]
        if answers["kind"] == "classes":
            parts.append(_matrices(scheme, answers, report["labels"]))
        else:
            plots = [errors_plot(name, errors) for name, errors in answers["outputs"].items()]
            parts.append(
                joined(element("h3", f"{scheme}: errors of each output"), element("div", *plots, class_="pair"))
            )
    if not parts:
        return Markup("")
    return section("Answers, float against quantized", "", *parts)


def _matrices(scheme: str, answers: Data, names: Sequence[str]) -> Markup:
    true = "the true class" if answers["labelled"] else "the float model's class"
    sentence = f"{counted(answers['changed'], 'sample')} of another class than the float model's. Rows are {true}."
    parts: list[Child] = [element("h3", scheme), element("p", sentence, class_="hint")]
    if len(answers.get("float", ())) in range(1, _MAX_DRAWN_CLASSES + 1):
        plots = [matrix_plot(answers["candidate"], names, scheme)]
        if answers["labelled"]:
            plots.insert(0, matrix_plot(answers["float"], names, "float model"))
        parts.append(element("div", *plots, class_="pair"))
    else:
        rows: list[list[Child]] = [
            [_class(names, true_), _class(names, told), count]
            for true_, told, count in answers["confusions"]["candidate"]
        ]
        parts.append(table((true, "told", "samples"), rows))
    return joined(*parts)


def _class(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
