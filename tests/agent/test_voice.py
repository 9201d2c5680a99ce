"""What is said on MQTT, and when."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from edgeferry.agent.spool import Spool
from edgeferry.agent.voice import MAX_EVENTS_ON_THE_WAY, STATE_INTERVAL_MS, Voice
from edgeferry.wire.codec import decode, encode
from edgeferry.wire.messages import Event, ModelState, State, Telemetry, TransferState
from edgeferry.wire.topics import TopicKind

from .simulated import DEVICE, INFO, MODEL, TOPICS, Post
from .test_spool import events, spool_in

STATE = State(v=1, ts=1000, boot="cafe", generation=1, root_version=1)
TELEMETRY = Telemetry(v=1, ts=1, boot="cafe", seq=1, interval_s=10.0)


def fetching(done_bytes: int, ts: int) -> State:
    transfer = TransferState(sha256="0" * 64, done_bytes=done_bytes, total_bytes=100)
    model = ModelState(wanted=1, phase="fetching", transfer=transfer)
    return replace(STATE, ts=ts, models={MODEL: model})


class Speaker:
    """A voice, and what it has said."""

    def __init__(self, folder: Path) -> None:
        self.spool: Spool = spool_in(folder)
        self.post = Post()
        self.voice = Voice(self.post, TOPICS, DEVICE, self.spool)

    def connect(self, *, supports_expiry: bool = True) -> None:
        self.voice.connected(INFO, STATE, supports_expiry=supports_expiry)

    def states(self) -> list[State]:
        return [decode(State, payload) for payload in self.post.on(TopicKind.STATE)]

    def event_seqs(self) -> list[int]:
        return [decode(Event, payload).seq for payload in self.post.on(TopicKind.EVENT)]

    def acknowledge(self, seq: int) -> None:
        """Have the broker take the event that was said last with this number."""
        numbers = [
            number
            for number, said in enumerate(self.post.said, 1)
            if said.topic == TOPICS.device(DEVICE, TopicKind.EVENT) and decode(Event, said.payload).seq == seq
        ]
        self.voice.acknowledged(numbers[-1])


@pytest.fixture
def speaker(tmp_path: Path) -> Speaker:
    return Speaker(tmp_path)


@pytest.fixture
def connected(speaker: Speaker) -> Speaker:
    speaker.connect()
    return speaker


class TestConnecting:
    def test_a_new_broker_is_told_everything_in_order(self, connected: Speaker) -> None:
        kinds = (TopicKind.AVAILABILITY, TopicKind.INFO, TopicKind.STATE)

        assert [said.topic for said in connected.post.said] == [TOPICS.device(DEVICE, kind) for kind in kinds]
        assert [said.payload for said in connected.post.said] == [b"online", encode(INFO), encode(STATE)]
        assert all(said.retain and said.qos == 1 for said in connected.post.said)

    def test_everything_is_said_again_on_the_next_connection(self, connected: Speaker) -> None:
        connected.voice.disconnected()
        connected.connect()

        assert len(connected.states()) == 2

    def test_the_last_words_say_offline(self, speaker: Speaker) -> None:
        assert speaker.voice.offline_words == (f"edgeferry/v1/d/{DEVICE}/availability", b"offline")


class TestState:
    def test_the_same_state_is_said_once(self, connected: Speaker) -> None:
        connected.voice.say_state(replace(STATE, ts=9_999_999))

        assert connected.states() == [STATE]

    def test_a_change_is_said_at_once(self, connected: Speaker) -> None:
        changed = replace(STATE, generation=2)

        connected.voice.say_state(changed)

        assert connected.states() == [STATE, changed]

    def test_mere_progress_is_said_twice_a_second_at_most(self, connected: Speaker) -> None:
        said = fetching(1, 1000)
        too_early = fetching(2, 1000 + STATE_INTERVAL_MS - 1)
        in_time = fetching(3, 1000 + STATE_INTERVAL_MS)

        for state in (said, too_early, in_time):
            connected.voice.say_state(state)

        assert connected.states() == [STATE, said, in_time]

    def test_nothing_is_said_without_a_connection(self, speaker: Speaker) -> None:
        speaker.voice.say_state(STATE)

        assert speaker.post.said == []

    def test_a_state_that_was_not_taken_is_said_again(self, connected: Speaker) -> None:
        changed = replace(STATE, generation=2)
        connected.post.is_open = False
        connected.voice.say_state(changed)
        connected.post.is_open = True

        connected.voice.say_state(changed)

        assert connected.states() == [STATE, changed]


class TestTelemetry:
    def test_it_is_kept_for_three_intervals_where_the_broker_can_forget_again(self, connected: Speaker) -> None:
        connected.voice.say_telemetry(TELEMETRY)

        said = connected.post.said[-1]
        assert (said.payload, said.qos, said.retain, said.expiry_s) == (encode(TELEMETRY), 0, True, 30)

    def test_it_is_kept_for_a_second_at_least(self, connected: Speaker) -> None:
        connected.voice.say_telemetry(replace(TELEMETRY, interval_s=0.1))

        assert connected.post.said[-1].expiry_s == 1

    def test_it_is_not_kept_where_the_broker_cannot_forget(self, speaker: Speaker) -> None:
        speaker.connect(supports_expiry=False)
        speaker.voice.say_telemetry(TELEMETRY)

        said = speaker.post.said[-1]
        assert (said.retain, said.expiry_s) == (False, 0)


class TestEvents:
    def test_what_happened_offline_is_said_on_connecting_in_order(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 3))

        speaker.connect()

        assert speaker.event_seqs() == [1, 2, 3]

    def test_a_few_are_on_the_way_at_a_time(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 100))
        speaker.connect()

        assert speaker.event_seqs() == list(range(1, MAX_EVENTS_ON_THE_WAY + 1))
        speaker.voice.say_events()

        assert len(speaker.event_seqs()) == MAX_EVENTS_ON_THE_WAY

    def test_each_acknowledgement_makes_room_for_the_next(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 100))
        speaker.connect()

        for seq in range(1, 101):
            speaker.acknowledge(seq)

        assert speaker.event_seqs() == list(range(1, 101))
        assert speaker.spool.acknowledged_seq == 100

    def test_an_event_counts_as_taken_once_all_before_it_were(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 3))
        speaker.connect()

        speaker.acknowledge(3)
        speaker.acknowledge(2)
        assert speaker.spool.acknowledged_seq == 0
        speaker.acknowledge(1)

        assert speaker.spool.acknowledged_seq == 3

    def test_acknowledgements_of_other_messages_count_for_nothing(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 1))
        speaker.connect()

        speaker.voice.acknowledged(1)

        assert speaker.spool.acknowledged_seq == 0

    def test_what_was_not_acknowledged_is_said_again_on_the_next_connection(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 3))
        speaker.connect()
        speaker.acknowledge(1)
        speaker.voice.disconnected()

        speaker.connect()

        assert speaker.event_seqs() == [1, 2, 3, 2, 3]

    def test_one_that_was_not_taken_is_said_later(self, connected: Speaker) -> None:
        connected.spool.append(events(1, 2))
        connected.post.is_open = False
        connected.voice.say_events()
        connected.post.is_open = True

        connected.voice.say_events()

        assert connected.event_seqs() == [1, 2]

    def test_nothing_is_said_without_a_connection(self, speaker: Speaker) -> None:
        speaker.spool.append(events(1, 2))

        speaker.voice.say_events()

        assert speaker.post.said == []
