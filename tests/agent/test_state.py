"""What the agent remembers, and that nothing altered is believed."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeferry.agent.state import AgentState, ModelRecord, decode_state, encode_state
from edgeferry.wire.codec import WireError

from .lifecycle_device import MODEL, Device, target


@pytest.fixture
def state() -> AgentState:
    device = Device()
    device.wish(target(1), target(2, "dogs"))
    device.run()
    return device.state


def test_a_state_reads_as_it_was_written(state: AgentState) -> None:
    assert decode_state(encode_state(state)) == state


def test_a_fresh_state_reads_as_it_was_written() -> None:
    assert decode_state(encode_state(AgentState())) == AgentState()


def test_equal_states_have_equal_bytes(state: AgentState) -> None:
    assert encode_state(decode_state(encode_state(state))) == encode_state(state)


@given(st.data())
def test_one_altered_byte_is_noticed(data: st.DataObject) -> None:
    written = bytearray(encode_state(AgentState(next_seq=12345)))
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(WireError):
        decode_state(bytes(written))


@given(st.integers(0, 200))
def test_a_cut_file_is_noticed(length: int) -> None:
    written = encode_state(AgentState(next_seq=12345))

    with pytest.raises(WireError, match="checksum differs"):
        decode_state(written[: min(length, len(written) - 1)])


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_an_error_of_ours(garbage: bytes) -> None:
    with pytest.raises(WireError):
        decode_state(garbage)


def test_a_body_that_is_no_state_is_refused_even_when_its_checksum_is_right() -> None:
    body = b'{"models":7}'

    with pytest.raises(WireError, match="AgentState"):
        decode_state(b"edgeferry-state 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def test_models_stand_in_the_order_of_their_names() -> None:
    state = AgentState().with_model("dogs", ModelRecord()).with_model("cats", ModelRecord(wanted=1))

    assert list(state.models) == ["cats", "dogs"]


def test_a_model_without_a_record_is_gone(state: AgentState) -> None:
    assert MODEL not in state.with_model(MODEL, None).models


def test_the_largest_blob_of_an_artifact_is_named_last() -> None:
    installed = target(1).installed

    assert installed.blobs() == (installed.manifest, installed.selftest, installed.model)
