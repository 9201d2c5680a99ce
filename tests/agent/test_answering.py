"""What an operator may ask, and that nobody can make a device talk elsewhere or crash by asking."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from edgeferry.agent.answering import MAX_EVENTS, Answerer, Subjects, is_reply_topic
from edgeferry.agent.bench import Bench
from edgeferry.agent.inbox import Received
from edgeferry.agent.state import AgentState, ModelRecord
from edgeferry.wire.messages import ModelState, Request, Response, State
from edgeferry.wire.topics import TopicKind

from .simulated import DEVICE, INFO, MODEL, PROFILE, TOPICS, Post, Said
from .test_bench import installed
from .test_spool import event, events, spool_in

NOW_MS = 50_000
REPLY_TO = TOPICS.response(DEVICE, "operator-1")
STATE = State(v=1, ts=1, boot="cafe", generation=7, root_version=1)


class Desk:
    """An answerer and what it has said."""

    def __init__(self, folder: Path, max_packet_bytes: int = 128 * 1024) -> None:
        self.spool = spool_in(folder)
        self.post = Post()
        self.state = STATE
        self.lines: deque[str] = deque()
        self.jobs: list[Callable[[], None]] = []
        self.installed = AgentState()
        bench = Bench(folder.joinpath, PROFILE, self.jobs.append, lambda: self.installed)
        subjects = Subjects(lambda: INFO, lambda: self.state, self.spool, self.lines, bench)
        self.answerer = Answerer(self.post, TOPICS, DEVICE, subjects, max_packet_bytes)

    def ask(self, method: str, payload: bytes = b"", **fields: Any) -> Said | None:
        message = Received(TOPICS.request(DEVICE, method), payload, **({"reply_to": REPLY_TO} | fields))
        before = len(self.post.said)
        self.answerer.answer(method, message, NOW_MS)
        return self.post.said[-1] if len(self.post.said) > before else None

    def ok(self, method: str, **parameters: Any) -> Any:
        """Return what is answered, which is no error."""
        said = self.ask(method, msgspec.json.encode({"parameters": parameters}))
        assert said is not None
        response = msgspec.json.decode(said.payload)
        assert "error" not in response
        return response["ok"]

    def reason(self, method: str, payload: bytes = b"", **fields: Any) -> str:
        """Return the reason of the error that is answered."""
        said = self.ask(method, payload, **fields)
        assert said is not None
        return str(msgspec.json.decode(said.payload)["error"]["reason"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


class TestMethods:
    def test_a_ping_is_answered_with_time_and_boot(self, desk: Desk) -> None:
        assert desk.ok("ping") == {"ts": NOW_MS, "boot": "cafe"}

    def test_get_without_parameters_gives_the_state(self, desk: Desk) -> None:
        assert desk.ok("get")["generation"] == 7

    @pytest.mark.parametrize(("what", "field"), [("state", "generation"), ("info", "profile")])
    def test_get_gives_what_is_asked_for(self, desk: Desk, what: str, field: str) -> None:
        assert field in desk.ok("get", what=what)

    def test_get_says_events_again(self, desk: Desk) -> None:
        desk.spool.append(events(1, 5))

        answer = desk.ok("get", events_after=3)

        assert [said["seq"] for said in answer["events"]] == [4, 5]
        assert answer["last_seq"] == 5

    def test_get_says_a_bounded_number_of_events(self, desk: Desk) -> None:
        desk.spool.append(events(1, MAX_EVENTS + 50))

        assert len(desk.ok("get", events_after=0)["events"]) == MAX_EVENTS

    def test_get_says_as_many_events_as_fit_into_a_message(self, desk: Desk) -> None:
        desk.spool.append(tuple(replace(event(seq), detail="x" * 10_000) for seq in range(1, 30)))

        said = desk.ask("get", b'{"parameters":{"events_after":0}}')

        assert said is not None
        assert len(said.payload) <= 128 * 1024
        assert len(msgspec.json.decode(said.payload)["ok"]["events"]) == 12

    def test_the_tail_of_the_log_is_what_fits_into_a_message(self, desk: Desk) -> None:
        desk.lines.extend(str(number) + "x" * 10_000 for number in range(30))

        lines = desk.ok("logs.tail")["lines"]

        assert [line.rstrip("x") for line in lines] == [str(number) for number in range(18, 30)]

    def test_a_short_log_comes_whole(self, desk: Desk) -> None:
        desk.lines.extend(["one", "two"])

        assert desk.ok("logs.tail")["lines"] == ["one", "two"]

    def test_a_bench_is_answered_when_it_has_ended(self, desk: Desk) -> None:
        desk.installed = AgentState(models={MODEL: ModelRecord(active=installed(1))})

        at_once = desk.ask("bench", msgspec.json.encode({"id": "7", "parameters": {"model": MODEL}}))
        desk.jobs[0]()

        assert at_once is None
        answer = msgspec.json.decode(desk.post.said[-1].payload, type=Response)
        assert answer.id == "7"
        assert answer.error is not None  # there are no files to run
        assert answer.error.reason == "MANIFEST_MISMATCH"

    def test_a_bench_that_makes_no_sense_is_refused_at_once(self, desk: Desk) -> None:
        assert desk.reason("bench") == "BAD_REQUEST"


class TestRefusals:
    def test_an_unknown_method_is_refused(self, desk: Desk) -> None:
        assert desk.reason("reboot") == "UNKNOWN_METHOD"

    def test_unknown_parameters_are_refused(self, desk: Desk) -> None:
        assert desk.reason("get", b'{"parameters":{"what":"passwords"}}') == "BAD_REQUEST"

    def test_garbage_is_refused(self, desk: Desk) -> None:
        assert desk.reason("get", b"garbage") == "BAD_REQUEST"

    @pytest.mark.parametrize(
        ("payload", "deadline_ms"),
        [(b'{"deadline_ms":49999}', 0), (b"", NOW_MS - 1), (b'{"deadline_ms":1}', NOW_MS + 1)],
    )
    def test_a_request_is_not_carried_out_after_its_deadline(
        self, desk: Desk, payload: bytes, deadline_ms: int
    ) -> None:
        assert desk.reason("ping", payload, deadline_ms=deadline_ms) == "DEADLINE_PASSED"

    def test_an_answer_over_the_packet_limit_says_so_in_its_place(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path, max_packet_bytes=16 * 1024)
        models = {f"model-{number}": ModelState(wanted=1, phase="idle") for number in range(600)}
        desk.state = replace(STATE, models=models)

        assert desk.reason("get") == "TOO_LARGE"

    def test_topic_and_correlation_count_as_a_part_of_the_message(self, tmp_path: Path) -> None:
        desk = Desk(tmp_path, max_packet_bytes=16 * 1024)
        desk.state = replace(
            STATE, models={f"model-{number}": ModelState(wanted=1, phase="idle") for number in range(99)}
        )

        assert desk.reason("get", correlation=b"x" * 14_000) == "TOO_LARGE"

    def test_nothing_is_said_when_not_even_the_error_fits(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A broker ends the connection of whoever says more than it passes on: anybody could so end a device's."""
        desk = Desk(tmp_path, max_packet_bytes=16 * 1024)

        assert desk.ask("ping", correlation=b"x" * 65_535) is None
        assert "the address alone has" in caplog.text

    def test_the_error_does_not_repeat_a_long_id(self, desk: Desk) -> None:
        said = desk.ask("ping", msgspec.json.encode({"id": "x" * 10_000}))

        assert said is not None
        assert len(said.payload) < 1000
        assert b'"BAD_REQUEST"' in said.payload

    @pytest.mark.parametrize("deadline_ms", [b"-1", b"9" * 400])
    def test_a_deadline_that_is_no_time_is_refused(self, desk: Desk, deadline_ms: bytes) -> None:
        assert desk.reason("ping", b'{"deadline_ms":' + deadline_ms + b"}") == "BAD_REQUEST"


class TestAddresses:
    def test_the_answer_goes_where_mqtt_5_says_with_its_correlation(self, desk: Desk) -> None:
        said = desk.ask("ping", correlation=b"\x01\x02")

        assert said is not None
        assert (said.topic, said.correlation, said.qos) == (REPLY_TO, b"\x01\x02", 1)

    def test_the_answer_goes_where_the_body_says_with_its_id(self, desk: Desk) -> None:
        body = msgspec.json.encode(Request(id="42", reply_to=REPLY_TO))

        said = desk.ask("ping", body, reply_to="")

        assert said is not None
        assert (said.topic, msgspec.json.decode(said.payload, type=Response).id) == (REPLY_TO, "42")

    @pytest.mark.parametrize(
        "reply_to",
        [
            "",
            "elsewhere",
            TOPICS.response("another", "operator"),
            TOPICS.device(DEVICE, TopicKind.STATE),
            f"{REPLY_TO}/below",
            TOPICS.response(DEVICE, ""),
            TOPICS.response(DEVICE, "#"),
            TOPICS.response(DEVICE, "+"),
            TOPICS.response(DEVICE, "a\0b"),
        ],
    )
    def test_nothing_is_said_on_topics_that_are_not_for_answers_of_this_device(self, desk: Desk, reply_to: str) -> None:
        """A wildcard would moreover raise in paho, in the main loop."""
        assert desk.ask("ping", reply_to=reply_to) is None
        assert not is_reply_topic(TOPICS, DEVICE, reply_to)
