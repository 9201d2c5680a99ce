"""The whole page: what was chosen and why, what everything came to, what is inside, what went in."""

from collections.abc import Mapping

from edgeferry.converter.html.answers_section import answers_section
from edgeferry.converter.html.element import Child, Markup, element, joined
from edgeferry.converter.html.fusion_section import fusion_section
from edgeferry.converter.html.intervals import Drop, drops_plot
from edgeferry.converter.html.layers_section import layers_section
from edgeferry.converter.html.pareto import Point, pareto_plot
from edgeferry.converter.html.parts import Data, code, key, section, table
from edgeferry.converter.html.style import STYLE
from edgeferry.converter.html.words import (
    ERRORS,
    METRICS,
    SIZES,
    TIMES,
    bytes_of,
    hash_of,
    milliseconds,
)

__all__ = ["report_page"]


def report_page(report: Data) -> str:
    """Return the page for the data of a ``report.json``."""
    title = f"{report['name']} {report['version']} for {report['profile']}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element(
        "main",
        _opening(report),
        _tiles(report),
        _candidates(report),
        _accuracy(report),
        answers_section(report),
        layers_section(report),
        _repairs(report),
        _operations(report),
        fusion_section(report),
        _inputs(report),
        element(
            "footer",
            f"Written by edgeferry {report['host']['packages'].get('edgeferry', '')}; the same as data: ",
            code("report.json"),
        ),
    )
    page = element("html", head, element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _opening(report: Data) -> Markup:
    chosen, measured = _chosen(report), _measured(report)
    float32 = next((row for row in measured if row["scheme"] == "float32"), None)
    sentence: list[Child] = ["No scheme keeps the budgets."]
    if chosen is not None:
        first = "is the first of the profile's schemes that keeps every budget"
        best = f"keeps every budget, and is the best for {report['objective']}"
        sentence = [element("b", chosen["scheme"]), " ", first if report["objective"] == "order" else best]
        if float32 is not None and chosen is not float32:
            ratio = chosen["size_bytes"] / float32["size_bytes"]
            sentence.append(f": {ratio:.2f} times the size of the float model")
        loss = chosen["evaluation"]["drop"]
        sentence.append(f", {f'losing {loss:.4f} of' if loss > 0 else 'with no loss of'} {_metric(report)}.")
    return joined(
        element("div", f"Conversion report · {report['profile']}", class_="eyebrow"),
        element("h1", f"{report['name']} {report['version']}"),
        element("p", *sentence, class_="verdict"),
    )


def _tiles(report: Data) -> Markup:
    chosen = _chosen(report)
    if chosen is None:
        return Markup("")
    evaluation, budgets = chosen["evaluation"], report["budgets"]
    interval = evaluation.get("drop_95")
    spread = f", {interval[0]:+.4f} to {interval[1]:+.4f} (95 %)" if interval else ""
    labelled = f"float {evaluation['float']:.4f} on {evaluation['samples']} samples"
    tiles = [
        (_metric(report), f"{evaluation['candidate']:.4f}", labelled),
        ("loss", f"{evaluation['drop']:+.4f}", f"allowed {report['max_drop']:g}{spread}"),
        ("file", bytes_of(chosen["size_bytes"]), f"allowed {bytes_of(budgets['model_bytes'])}"),
        ("memory, peak", bytes_of(chosen["memory_bytes"]), f"allowed {bytes_of(budgets['memory_bytes'])}"),
        (
            "time on the build host",
            milliseconds(chosen["host_latency_ms"]),
            "median, one thread; says nothing of the device",
        ),
    ]
    return element(
        "div",
        *(
            element(
                "div",
                element("div", what, class_="what"),
                element("div", figure, class_="figure"),
                element("div", beside, class_="beside"),
                class_="tile",
            )
            for what, figure, beside in tiles
        ),
        class_="tiles",
    )


def _candidates(report: Data) -> Markup:
    rows = [_candidate_row(row) for row in report["candidates"]]
    heads = ("scheme", "", "size", "time here", "memory", _metric(report), "loss", "why")
    measured = _measured(report)
    wanted = _base(measured[0]["evaluation"]) - report["max_drop"] if measured else None
    label_of_score = "gain, in deviations of the labels" if _raw_metric(report) in ERRORS else _metric(report)
    size, latency = (
        pareto_plot(
            [_point(row, cost) for row in measured],
            x_label=label,
            y_label=label_of_score,
            units=units,
            wanted=wanted,
        )
        for cost, label, units in (
            ("size_bytes", "size of the file", SIZES),
            ("host_latency_ms", "time on the build host", TIMES),
        )
    )
    colours = key(("chosen", "chosen"), ("good", "keeps every budget, but comes later"), ("rejected", "rejected"))
    return section(
        "Candidates",
        "Every scheme of the profile, in its order of preference. Up and to the left is better; the dotted line joins "
        "those that nothing beats in both.",
        element("div", size, latency, class_="pair"),
        colours,
        table(heads, rows, ["" if row["state"] != "chosen" else "chosen" for row in report["candidates"]]),
    )


def _candidate_row(row: Data) -> list[Child]:
    badge = element("span", row["state"], class_=f"badge {row['state']}")
    repaired = element("div", row["repaired_by"], class_="hint") if row.get("repaired_by") else None
    name = joined(row["scheme"], repaired)
    if "evaluation" not in row:
        return [name, badge, "", "", "", "", "", row["verdict"]]
    evaluation = row["evaluation"]
    return [
        name,
        badge,
        bytes_of(row["size_bytes"]),
        milliseconds(row["host_latency_ms"]),
        bytes_of(row["memory_bytes"]),
        f"{evaluation['candidate']:.4f}",
        f"{evaluation['drop']:+.4f}",
        row["verdict"],
    ]


def _accuracy(report: Data) -> Markup:
    drops = [
        Drop(
            row["scheme"], row["evaluation"]["drop"], row["state"], *(row["evaluation"].get("drop_95") or (None, None))
        )
        for row in _measured(report)
    ]
    if not drops:
        return Markup("")
    has_intervals = any(drop.low is not None for drop in drops)
    held_out = (
        "samples that calibration has not seen" if report["evaluation"]["held_out"] else "the calibration samples"
    )
    bars = (
        " Bars are 95 % intervals, paired on the same samples; the budget is held against their upper end."
        * has_intervals
    )
    meaning = METRICS.get(_raw_metric(report), "Score of the float model less that of the candidate")
    return section(
        "Loss of " + _metric(report),
        f"{meaning}; on {held_out}.{bars}",
        drops_plot(drops, report["max_drop"]),
    )


def _repairs(report: Data) -> Markup:
    parts: list[Child] = []
    for scheme, steps in report["repairs"].items():
        items = [element("li", *_step(step), class_="enough" if step["is_enough"] else None) for step in steps]
        parts.append(joined(element("h3", scheme), element("ol", *items, class_="steps")))
    if not parts:
        return Markup("")
    lead = (
        "Before a later scheme is taken, one that loses too much is repaired; each rung keeps what the others gained."
    )
    return section("Repair", lead, *parts)


def _step(step: Data) -> list[Child]:
    done = step["repair"] or "nothing"
    figures = "" if step["drop"] is None else f", still loses {max(0.0, step['drop']):.4f}"
    end = " and keeps the budget" if step["is_enough"] else ""
    sentence = element("div", step["sentence"], class_="hint") if step["sentence"] else None
    return [element("b", step["rung"]), f": {done}{figures}{end}", sentence]


def _operations(report: Data) -> Markup:
    chosen = _chosen(report)
    look = report["looks"].get(chosen["scheme"], {}) if chosen else {}
    counts: Mapping[str, int] = look.get("operations", {})
    if not counts:
        return Markup("")
    most = max(counts.values())
    rows: list[list[Child]] = [
        [code(name), count, element("span", class_="meter", style=f"width:{max(3, round(220 * count / most))}px")]
        for name, count in counts.items()
    ]
    total = sum(counts.values())
    return section("Operations", f"{total} in {report['scheme']}.", table(("operation", "count", ""), rows))


def _inputs(report: Data) -> Markup:
    named = [("model", report["source"]), ("calibration", report["calibration"]), ("evaluation", report["evaluation"])]
    rows: list[list[Child]] = [
        [what, code(one["name"]), bytes_of(one["size_bytes"]), element("span", hash_of(one["sha256"]), class_="hash")]
        for what, one in named
        if one
    ]
    host = report["host"]
    tools: list[list[Child]] = [["Python", host["python"]], *([name, at] for name, at in host["packages"].items())]
    place = host.get("processor") or host["machine"]
    return joined(
        section("What went in", f"A {report['source']['format']}.", table(("", "name", "size", "SHA-256"), rows)),
        section("Made with", f"Times and memory were measured on {place}.", table(("tool", "version"), tools)),
    )


def _point(row: Data, cost: str) -> Point:
    evaluation = row["evaluation"]
    base = _base(evaluation)
    low = high = None
    if evaluation.get("drop_95"):
        low, high = (base - end for end in reversed(evaluation["drop_95"]))
    return Point(row["scheme"], row[cost], base - evaluation["drop"], row["state"], low, high)


def _base(evaluation: Data) -> float:
    """Return what a loss is taken from: the float model's score, or nothing where the metric is an error."""
    return 0.0 if evaluation["metric"] in ERRORS else float(evaluation["float"])


def _chosen(report: Data) -> Data | None:
    return next((row for row in _measured(report) if row["state"] == "chosen"), None)


def _measured(report: Data) -> list[Data]:
    return [row for row in report["candidates"] if "evaluation" in row]


def _raw_metric(report: Data) -> str:
    measured = _measured(report)
    return str(measured[0]["evaluation"]["metric"]) if measured else "score"


def _metric(report: Data) -> str:
    return _raw_metric(report).replace("_", " ")
