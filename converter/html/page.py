"""The whole page: what was chosen and why, what everything came to, what is inside, what went in."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeferry.converter.html.answers import errors_plot, matrix_plot
from edgeferry.converter.html.element import Child, Markup, element, joined
from edgeferry.converter.html.intervals import Drop, drops_plot
from edgeferry.converter.html.layers import CAUSES, layers_plot
from edgeferry.converter.html.pareto import Point, pareto_plot
from edgeferry.converter.html.style import STYLE
from edgeferry.converter.html.words import (
    ERRORS,
    METRICS,
    SIZES,
    TIMES,
    bytes_of,
    counted,
    hash_of,
    milliseconds,
    percent,
)

__all__ = ["report_page"]

Data = Mapping[str, Any]
_MAX_DRAWN_CLASSES = 30  # more cells than a page shows
_SHOWN_LAYERS = 12
_NAME_CHARACTERS = 60
_SHORT = 24  # a cell that is not broken into lines


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
        _answers(report),
        _layers(report),
        _repairs(report),
        _operations(report),
        _inputs(report),
        element(
            "footer",
            f"Written by edgeferry {report['host']['packages'].get('edgeferry', '')}; the same as data: ",
            _code("report.json"),
        ),
    )
    page = element("html", head, element("body", body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _opening(report: Data) -> Markup:
    chosen, measured = _chosen(report), _measured(report)
    float32 = next((row for row in measured if row["scheme"] == "float32"), None)
    sentence: list[Child] = ["No scheme keeps the budgets."]
    if chosen is not None:
        sentence = [element("b", chosen["scheme"]), " is the first of the profile's schemes that keeps every budget"]
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
    key = _key(("chosen", "chosen"), ("good", "keeps every budget, but comes later"), ("rejected", "rejected"))
    return _section(
        "Candidates",
        "Every scheme of the profile, in its order of preference. Up and to the left is better; the dotted line joins "
        "those that nothing beats in both.",
        element("div", size, latency, class_="pair"),
        key,
        _table(heads, rows, ["" if row["state"] != "chosen" else "chosen" for row in report["candidates"]]),
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
    return _section(
        "Loss of " + _metric(report),
        f"{meaning}; on {held_out}.{bars}",
        drops_plot(drops, report["max_drop"]),
    )


def _answers(report: Data) -> Markup:
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
    return _section("Answers, float against quantized", "", *parts)


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
        parts.append(_table((true, "told", "samples"), rows))
    return joined(*parts)


def _layers(report: Data) -> Markup:
    parts: list[Child] = []
    causes: set[str] = set()
    for scheme, look in report["looks"].items():
        layers = look.get("layers", [])
        if layers:
            parts += [element("h3", scheme), layers_plot(layers), _outliers(layers)]
            causes |= {layer["cause"] for layer in layers if layer["cause"]}
    if not parts:
        return Markup("")
    key = _key(("", "as it should be"), *((cause, f"{cause}: {CAUSES[cause]}") for cause in CAUSES if cause in causes))
    return _section(
        "Layers",
        "Signal-to-noise ratio of each layer's output, quantized against float: 40 dB is an error of 1 %, 20 dB one of "
        "10 %, and at 0 dB nothing is left of the signal. A line across a column is the median channel of a feature "
        "map: far below the top, large channels take the precision of small ones.",
        *parts,
        key,
        is_long=True,
    )


def _outliers(layers: Sequence[Data]) -> Markup:
    found = (layer for layer in layers if layer["cause"])
    worst = sorted(found, key=lambda layer: (layer["cause"] == "inherited", _lowest_db(layer)))
    if not worst:
        return element("p", "No layer stands out.", class_="hint")
    rows: list[list[Child]] = [
        [
            joined(_code(_layer_name(layer["name"])), element("div", layer["operation"], class_="hint")),
            f"{layer['signal_db']:.1f} dB",
            "" if layer["channel_db"] is None else f"{layer['channel_db']:.1f} dB",
            joined(layer["cause"], element("div", _detail(layer), class_="hint")),
            f"{layer['low']:.4g} to {layer['high']:.4g}",
        ]
        for layer in worst[:_SHOWN_LAYERS]
    ]
    heads = ("layer", "ratio", "median channel", "cause", "float values")
    more = len(worst) - _SHOWN_LAYERS
    rest = element("p", f"and {more} more, in report.json", class_="hint") if more > 0 else None
    return joined(_table(heads, rows), rest)


def _lowest_db(layer: Data) -> float:
    return float(min(ratio for ratio in (layer["signal_db"], layer["channel_db"]) if ratio is not None))


def _detail(layer: Data) -> str:
    """Return the figures by which a cause was told."""
    match layer["cause"]:
        case "saturation":
            return f"{percent(layer['clipped_share'])} of the values are clipped"
        case "dead channels":
            return f"{layer['dead_channels']} of {layer['channels']}"
        case "range outlier":
            return f"99.8 % of the values use {percent(layer['used_range'])} of the range"
        case _:
            return ""


def _layer_name(name: str) -> str:
    """Return the first of the names that fusing has joined, without what its graph was called."""
    first = name.split(";", maxsplit=1)[0]
    return first if len(first) <= _NAME_CHARACTERS else f"...{first[-_NAME_CHARACTERS:]}"


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
    return _section("Repair", lead, *parts)


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
        [_code(name), count, element("span", class_="meter", style=f"width:{max(3, round(220 * count / most))}px")]
        for name, count in counts.items()
    ]
    total = sum(counts.values())
    return _section("Operations", f"{total} in {report['scheme']}.", _table(("operation", "count", ""), rows))


def _inputs(report: Data) -> Markup:
    named = [("model", report["source"]), ("calibration", report["calibration"]), ("evaluation", report["evaluation"])]
    rows: list[list[Child]] = [
        [what, _code(one["name"]), bytes_of(one["size_bytes"]), element("span", hash_of(one["sha256"]), class_="hash")]
        for what, one in named
        if one
    ]
    host = report["host"]
    tools: list[list[Child]] = [["Python", host["python"]], *([name, at] for name, at in host["packages"].items())]
    place = host.get("processor") or host["machine"]
    return joined(
        _section("What went in", f"A {report['source']['format']}.", _table(("", "name", "size", "SHA-256"), rows)),
        _section("Made with", f"Times and memory were measured on {place}.", _table(("tool", "version"), tools)),
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


def _class(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _section(title: str, lead: str, *parts: Child, is_long: bool = False) -> Markup:
    first = element("p", lead, class_="hint") if lead else None
    return element("section", element("h2", title), first, *parts, class_="long" if is_long else None)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Child]], kinds: Sequence[str] = ()) -> Markup:
    head = element("tr", *(element("th", name) for name in heads))
    body = [
        element("tr", *(_cell(cell) for cell in row), class_=kinds[index] if index < len(kinds) else None)
        for index, row in enumerate(rows)
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _cell(cell: Child) -> Markup:
    is_short = isinstance(cell, str) and not isinstance(cell, Markup) and len(cell) <= _SHORT
    return element("td", cell, class_="tight" if is_short else None)


def _key(*entries: tuple[str, str]) -> Markup:
    colours = {
        "chosen": "background:var(--chosen)",
        "good": "background:var(--good)",
        "rejected": "background:var(--rejected)",
    }
    items = [
        element("span", element("i", class_=kind.replace(" ", "-"), style=colours.get(kind)), text)
        for kind, text in entries
    ]
    return element("div", *items, class_="key")


def _code(text: str) -> Markup:
    return element("code", text)
