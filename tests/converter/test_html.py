"""The page: whole, escaped, without anything from elsewhere, and true to its data."""

import xml.etree.ElementTree as ET
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest

from edgeferry.converter.html.answers import errors_plot, matrix_plot
from edgeferry.converter.html.axes import Axis, axis_over, round_ticks
from edgeferry.converter.html.element import Markup, element, joined
from edgeferry.converter.html.intervals import Drop, drops_plot
from edgeferry.converter.html.layers import layers_plot
from edgeferry.converter.html.page import report_page
from edgeferry.converter.html.pareto import Point, front, pareto_plot
from edgeferry.converter.html.words import SIZES, bytes_of, counted, hash_of, milliseconds, percent, unit_of

EVIL = '<script>alert("1")</script>'


def evaluation(drop: float, **more: object) -> dict[str, object]:
    return {"metric": "top1_agreement", "float": 1.0, "candidate": 1 - drop, "drop": drop, "samples": 50, **more}


def candidate(scheme: str, state: str, drop: float = 0.0, size: int = 5000, **more: Any) -> dict[str, Any]:
    return {
        "scheme": scheme,
        "size_bytes": size,
        "memory_bytes": 2**22,
        "host_latency_ms": 1.5,
        "evaluation": evaluation(drop, **more.pop("said", {})),
        "state": state,
        "verdict": state,
        **more,
    }


LAYER = {
    "name": "graph/conv/Relu;other",
    "operation": "CONV_2D",
    "signal_db": 30.0,
    "own_db": 31.0,
    "channel_db": 12.0,
    "cause": "",
    "low": 0.0,
    "high": 6.0,
    "used_range": 0.5,
    "clipped_share": 0.01,
    "dead_channels": 0,
    "channels": 8,
}
REPORT: dict[str, Any] = {
    "format": 1,
    "name": "cats",
    "version": 3,
    "profile": "raspberry-pi-4",
    "scheme": "float16",
    "max_drop": 0.01,
    "objective": "order",
    "budgets": {"model_bytes": 2**20, "memory_bytes": 2**28},
    "candidates": [
        candidate("int8", "rejected", 0.2, 2000, said={"drop_95": [0.1, 0.3]}),
        {"scheme": "int16x8", "state": "rejected", "verdict": "passed over"},
        candidate("float16", "chosen", 0.001, 3000, said={"drop_95": [0.0, 0.004]}, repaired_by="bias correction"),
        candidate("float32", "good"),
    ],
    "repairs": {
        "float16": [
            {"rung": "better calibration", "repair": "", "drop": None, "is_enough": False, "sentence": "nothing fits"},
            {"rung": "equalization", "repair": "bias correction", "drop": 0.1, "is_enough": True, "sentence": ""},
        ]
    },
    "labels": ["cat", EVIL],
    "looks": {
        "int8": {
            "answers": {
                "kind": "classes",
                "classes": 2,
                "labelled": True,
                "changed": 1,
                "confusions": {"float": [], "candidate": [[0, 1, 1]]},
                "float": [[5, 0], [1, 4]],
                "candidate": [[4, 1], [1, 4]],
            },
            "layers": [LAYER]
            + [LAYER | {"cause": "range outlier", "signal_db": -30.0, "own_db": None}] * 15
            + [
                LAYER | {"cause": "dead channels", "dead_channels": 2, "signal_db": -50.0},
                LAYER | {"cause": "saturation", "signal_db": -50.0},
                LAYER | {"cause": "inherited"},
            ],
            "operations": {"CONV_2D": 3},
        },
        "float16": {
            "answers": {
                "kind": "errors",
                "outputs": {
                    "y": {"counts": [1, 5, 1], "edges": [-1, -0.3, 0.3, 1], "rmse": 0.1, "largest": 1.0, "spread": 2.0}
                },
            },
            "layers": [LAYER | {"channel_db": None, "cause": "inherited"}],
            "operations": {"CONV_2D": 4, "SOFTMAX": 1},
        },
        "float32": {"answers": {"kind": "errors", "outputs": {}}, "layers": [LAYER], "operations": {}},
    },
    "source": {"format": "Keras 3 model", "name": EVIL, "size_bytes": 10, "sha256": "a" * 64},
    "calibration": None,
    "evaluation": {"held_out": False, "name": "test.npz", "size_bytes": 10, "sha256": "b" * 64},
    "host": {"machine": "x86_64", "processor": "a fast one", "python": "3.11", "packages": {"edgeferry": "0.1.0"}},
}


def changed(**changes: object) -> dict[str, Any]:
    return deepcopy(REPORT) | changes


class Words(HTMLParser):
    """Collects what a reader sees, and every element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(REPORT)


def test_the_page_is_well_formed(page):
    ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def test_the_page_needs_nothing_from_elsewhere_and_no_script(page):
    words = Words(page)

    assert "script" not in words.tags
    assert "link" not in words.tags
    assert words.links == []
    assert "url(" not in page
    assert "http" not in page


def test_what_people_have_named_is_escaped(page):
    assert EVIL not in page
    assert Words(page).text.count(EVIL) >= 2


def test_the_page_tells_the_story(page):
    text = Words(page).text

    for told in (
        "float16 is the first of the profile's schemes that keeps every budget: 0.60 times the size",
        "losing 0.0010 of top1 agreement",
        "1 sample of another class than the float model's. Rows are the true class.",
        "passed over",
        "better calibration: nothing",
        "nothing fits",
        "equalization: bias correction, still loses 0.1000 and keeps the budget",
        "range outlier",
        "and 6 more, in report.json",
        "99.8 % of the values use 50 % of the range",
        "2 of 8",
        "1 % of the values are clipped",
        "5 in float16",
        "a fast one",
        "the calibration samples",
    ):
        assert told in text, told


def test_the_page_of_a_conversion_that_found_nothing_says_so():
    rejected = [row | {"state": "rejected"} for row in REPORT["candidates"]]
    text = Words(report_page(changed(scheme=None, candidates=rejected, looks={}, repairs={}))).text

    assert "No scheme keeps the budgets." in text
    assert "Repair" not in text
    assert "Layers" not in text


def test_the_page_stands_though_nothing_could_be_made():
    nothing = [{"scheme": "int8", "state": "rejected", "verdict": "not made: no"}]

    assert "not made: no" in report_page(changed(scheme=None, candidates=nothing, looks={}))


def test_a_float_model_that_was_chosen_is_compared_with_nothing():
    text = Words(report_page(changed(candidates=[candidate("float32", "chosen")], looks={}, scheme="float32"))).text

    assert "keeps every budget, with no loss of top1 agreement" in text


def test_what_is_best_for_something_is_not_said_to_be_the_first():
    text = Words(report_page(changed(objective="size"))).text

    assert "float16 keeps every budget, and is the best for size: 0.60 times" in text


def test_an_error_is_told_as_a_loss():
    rows = [candidate("int8", "chosen", 0.1, said={"metric": "mae", "float": 3.0, "candidate": 3.2})]

    assert "gain, in deviations of the labels" in report_page(changed(candidates=rows, looks={}))


def test_of_many_classes_and_without_labels_the_mistakes_are_listed():
    answers = REPORT["looks"]["int8"]["answers"] | {"labelled": False}
    few = changed(looks={"int8": {"answers": answers}})
    many = changed(looks={"int8": {"answers": {k: v for k, v in answers.items() if k not in ("float", "candidate")}}})

    assert "the float model's class" in Words(report_page(few)).text
    assert "the float model's class" in Words(report_page(many)).text


def test_elements_escape_text_and_attributes():
    found = element("p", "a < b", element("br"), None, 3, class_='"x"', data_n=1.5, id=None)

    assert found == '<p class="&quot;x&quot;" data-n="1.5">a &lt; b<br/>3</p>'
    assert joined("<", Markup("<i/>")) == "&lt;<i/>"


def test_an_axis_holds_its_values_and_cuts_off_the_others():
    axis = axis_over([3.0, 3.0], 0, 100)

    assert axis.low < 3 < axis.high
    assert axis.at(-99) == 0
    assert axis.at(99) == 100
    assert axis_over([0.0], 0, 1, floor=5.0).high > 5.0
    assert Axis(0, 10, 100, 0, ()).at(5) == 50


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, (0, 2, 4, 6, 8, 10)), (0.11, 0.29, (0.15, 0.2, 0.25)), (-1, 1, (-1, -0.5, 0, 0.5, 1))],
)
def test_ticks_are_round(low, high, ticks):
    assert round_ticks(low, high, 5)[: len(ticks)] == pytest.approx(ticks)


def test_the_front_joins_what_nothing_beats():
    points = [Point("a", 2, 0.9, "good"), Point("b", 1, 0.5, "rejected"), Point("c", 3, 0.8, "good")]

    assert [point.name for point in front(points)] == ["b", "a"]


def test_figures_without_data_are_empty():
    assert pareto_plot([], x_label="", y_label="", units=SIZES) == ""
    assert drops_plot([], 0.01) == ""
    assert layers_plot([]) == ""


def test_names_of_points_do_not_lie_on_each_other():
    points = [Point(name, 1.0, 0.5, "good") for name in ("one", "two", "three")]
    plot = ET.fromstring(pareto_plot(points, x_label="size", y_label="score", units=SIZES))

    heights = [text.attrib["y"] for text in plot.iter("text") if "name" in text.attrib["class"]]
    assert len(set(heights)) == 3


def test_large_matrices_have_no_figures_in_their_cells():
    plot = matrix_plot([[1] * 50] * 50, [], "big")

    assert "count" not in plot
    assert "tick end" not in plot


def test_an_output_without_errors_has_a_plot():
    errors = {"counts": [0, 4, 0], "edges": [-1, -0.3, 0.3, 1], "rmse": 0.0, "largest": 0.0, "spread": 1.0}

    assert "off by" in errors_plot("y", errors)
    assert "off by" in errors_plot("y", errors | {"counts": [0, 0, 0]})


def test_a_drop_without_an_interval_is_a_point():
    assert "whisker" not in drops_plot([Drop("int8", 0.0, "good")], 0.01)
    assert "whisker" in drops_plot([Drop("int8", 0.0, "chosen", -0.01, 0.01)], 0.01)


def test_figures_are_spelled_for_people():
    assert [bytes_of(n) for n in (12, 2048, 3 * 2**20, 3000 * 2**20)] == ["12 B", "2 KiB", "3 MiB", "2.93 GiB"]
    assert [milliseconds(n) for n in (0, 0.0123, 4.567)] == ["0 ms", "12.3 µs", "4.57 ms"]
    assert [percent(n) for n in (0.0, 0.0123, 0.5)] == ["0 %", "1.2 %", "50 %"]
    assert hash_of("a" * 16) == "aaaaaaaa aaaaaaaa"
    assert (counted(1, "sample"), counted(2, "sample")) == ("1 sample", "2 samples")
    assert (unit_of(2048, SIZES)[0], unit_of(0, SIZES)[0]) == ("KiB", "B")


FUSED = {"index": 0, "operator": "CONV_2D", "layers": ["conv", "bn", EVIL], "activation": "relu"}
ALONE = {"index": 1, "operator": "MUL", "layer": "late_bn", "reason": "relu comes before it", "remedy": "swap them"}


def test_fusion_is_told_with_what_stopped_it():
    text = Words(report_page(changed(fusion={"fused": [FUSED], "unfused": [ALONE]}))).text

    assert "2 layers went into 1 operation, 1 with an activation; 1 could not be fused:" in text
    assert "late_bn" in text
    assert "swap them" in text


def test_long_fusions_are_cut_and_nothing_alone_is_said():
    text = Words(report_page(changed(fusion={"fused": [FUSED] * 25, "unfused": []}))).text

    assert "and 5 more, in report.json" in text
    assert "nothing that could be fused stands alone." in text


def test_a_page_without_fusion_has_no_such_section():
    assert "went into" not in Words(report_page(changed(fusion={"fused": [], "unfused": []}))).text
    assert "went into" not in Words(report_page(REPORT)).text
