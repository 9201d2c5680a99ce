"""docs/protocol.md names everything that the wire package can say."""

import re
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest

from edgeferry.wire.blocks import BlockRequest
from edgeferry.wire.codec import Message
from edgeferry.wire.desired import (
    all_document_path,
    decode_document,
    device_document_path,
    group_document_path,
    manifest_path,
)
from edgeferry.wire.joining import JoinToken
from edgeferry.wire.messages import (
    Availability,
    Code,
    EventKind,
    ModelState,
    ModelTelemetry,
    Outcome,
    Reason,
    Request,
    Response,
    State,
    Telemetry,
)
from edgeferry.wire.topics import DEFAULT_ROOT, Topics

from .test_topics import GOLDEN, matches

DOC = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
WORDS = set(re.findall(r"`([^`\n]+)`", DOC))


def first_column(heading: str) -> set[str]:
    """Return what stands in the first column of the table whose first cell in the heading is ``heading``."""
    table = DOC.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `([^`]+)`", table, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "kind"), [("reason", Reason), ("kind", EventKind), ("outcome", Outcome)], ids=["reason", "event", "end"]
)
def test_a_table_has_every_member_and_no_other(heading: str, kind: type[StrEnum]) -> None:
    assert first_column(heading) == set(kind)


def test_every_reason_has_a_meaning_and_something_to_do() -> None:
    for reason in Reason:
        row = re.search(rf"^\| `{reason}` \| (.+) \| (.+) \|$", DOC, re.MULTILINE)

        assert row, reason
        assert all(len(cell) > 10 or cell == "see `detail`" for cell in row.groups())


@pytest.mark.parametrize("kind", [Code, Availability])
def test_every_word_of_a_closed_list_is_named(kind: type[StrEnum]) -> None:
    assert set(kind) <= WORDS


@pytest.mark.parametrize("kind", [Telemetry, ModelTelemetry, ModelState, Request, Response, JoinToken, BlockRequest])
def test_every_field_is_named(kind: type[Message]) -> None:
    spelled = {field.encode_name for field in msgspec.structs.fields(kind)} - {"v"}

    assert {name for name in spelled if name not in WORDS and f'"{name}"' not in DOC} == set()


def test_every_field_of_the_state_is_named_but_the_common_ones() -> None:
    names = {field.encode_name for field in msgspec.structs.fields(State)} - {"v", "ts", "boot", "models"}

    assert names <= WORDS


def test_the_topic_table_has_every_topic_and_no_other() -> None:
    patterns = [re.sub(r"\{[a-z]+\}", "+", f"{DEFAULT_ROOT}/{topic}") for topic in first_column("topic")]
    patterns = [pattern.replace("root.+", "root.3") for pattern in patterns]

    assert all(any(matches(pattern, text) for pattern in patterns) for text in GOLDEN)
    assert all(any(matches(pattern, text) for text in GOLDEN) for pattern in patterns)


def test_what_an_agent_subscribes_to_is_named() -> None:
    said = DOC.partition("An agent subscribes to ")[2].partition("\n\n")[0]

    for pattern in Topics().device_subscriptions("pi"):
        assert f"`{pattern.removeprefix(DEFAULT_ROOT + '/').removeprefix('d/pi/')}`" in said


def test_the_signed_paths_are_named() -> None:
    paths = {
        all_document_path(),
        group_document_path("{group}"),
        device_document_path("{id}"),
        manifest_path("{name}", "{version}", "{profile}"),  # type: ignore[arg-type]  # a pattern, not a path
    }

    assert paths <= WORDS


def test_the_example_of_a_document_is_one() -> None:
    example = re.search(r'```json\n(\{"format".*?)\n```', DOC, re.DOTALL)

    assert example
    assert decode_document(example[1].encode()).models["digits"].labels == {"stable": 7}
