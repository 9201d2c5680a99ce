"""Whatever bytes come from the network or the disk, a parser raises what it documents, soon, and in little memory."""

import dataclasses
from pathlib import Path

import pytest

from tests.fuzz import running
from tests.fuzz.inputs import input_of
from tests.fuzz.running import try_input, try_numbers
from tests.fuzz.targets import targets

CORPUS = Path(__file__).parent / "corpus"
NAMES = [
    *("block", "block-request", "body-gzip", "difference", "difference-inside", "document", "flatbuffer", "http-head"),
    *("kept-resolved.timestamp.json", "kept-snapshot.json", "kept-timestamp.json"),
    *("manifest", "message-bench_parameters", "message-bench_report", "message-event", "message-info"),
    *("message-request", "message-response", "message-state", "message-telemetry", "partial-map", "proposed-root"),
    *(
        "protobuf-examples",
        "protobuf-infer",
        "protobuf-predict",
        "public-key",
        "rest-oip",
        "rest-oip-binary",
        "rest-tfs",
    ),
    *("root", "selftest", "snapshot", "spool", "state", "tensors-mqtt", "tensors-request", "tensors-response"),
    *("timestamp", "token", "topic"),
]


@pytest.mark.parametrize("name", NAMES)
def test_almost_right_inputs_are_taken_or_refused_in_order(name: str) -> None:
    (target,) = [target for target in targets() if target.name == name]

    assert try_numbers(target, range(5 * target.weight + 10)) is None


def test_every_target_is_tried() -> None:
    assert sorted(target.name for target in targets()) == sorted(NAMES)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_stays_mended(path: Path) -> None:
    (target,) = [target for target in targets() if target.name == path.parent.name]

    assert try_input(target, path.read_bytes()) is None


def test_a_number_makes_the_same_input_every_time() -> None:
    seeds = (b'{"a":1}', b'{"b":[2,3]}')

    assert [input_of("x", seeds, n) for n in range(100)] == [input_of("x", seeds, n) for n in range(100)]
    assert len({input_of("x", seeds, n) for n in range(100)}) > 80


def test_an_undocumented_error_and_an_endless_run_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MAX_INPUT_S", 0.1)
    target = targets()[0]

    def never_ends(_data: bytes) -> None:
        while True:
            pass

    broken = dataclasses.replace(target, parse=lambda data: data[10_000])
    slow = dataclasses.replace(target, parse=never_ends)

    assert "IndexError" in (try_input(broken, b"").error)
    assert "TooSlowError" in (try_input(slow, b"").error)
