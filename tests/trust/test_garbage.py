"""Whatever bytes come from the network or the disk, the trust layer refuses them in one way or believes the truth."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Signed
from tuf.api.serialization import SerializationError

from edgeferry.agent.trust import Missing, Resolved, TrustError
from tests.trust.simulator import Device, Fleet, forged

GARBAGE = st.binary(max_size=300)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fleet, Device]:
    """A fleet and a device that follows it; no test here changes what either believes."""
    folder: Path = tmp_path_factory.mktemp("world")
    fleet = Fleet(folder)
    fleet.enroll("cam-1")
    fleet.push(1)
    device = Device(folder / "run", fleet.repository.roots()[1])
    device.follow(fleet.broker(), fleet.now_ms)
    fleet.push(2)
    return fleet, device


def still_believes(world: tuple[Fleet, Device], version: int) -> bool:
    fleet, device = world
    remembered = device.remember(fleet.now_ms)
    return remembered is not None and remembered.wishes["digits"].version == version


@FEW
@given(timestamp=GARBAGE | JSON.map(lambda value: json.dumps(value).encode()), final=st.booleans())
def test_garbage_in_the_place_of_a_timestamp_is_refused(world, timestamp, final):
    fleet, device = world
    broker = fleet.broker()
    broker.timestamp = timestamp

    with pytest.raises(TrustError):
        device.look(broker, fleet.now_ms, final=final)

    assert still_believes(world, 1)


@FEW
@given(root=GARBAGE | JSON.map(lambda value: json.dumps(value).encode()))
def test_garbage_in_the_place_of_the_next_root_is_refused(world, root):
    fleet, device = world
    broker = fleet.broker()
    broker.roots[2] = root

    with pytest.raises(TrustError):
        device.look(broker, fleet.now_ms)

    assert (device.client.root_version, still_believes(world, 1)) == (1, True)


@FEW
@given(data=GARBAGE)
def test_garbage_in_the_place_of_a_blob_is_refused(world, data):
    fleet, device = world
    missing = device.look(fleet.broker(), fleet.now_ms)
    assert isinstance(missing, Missing)
    (ref,) = missing.blobs
    device.blobs[ref.sha256] = data

    with pytest.raises(TrustError) as error:
        device.look(fleet.broker(), fleet.now_ms)

    del device.blobs[ref.sha256]
    assert error.value.blob == ref
    assert still_believes(world, 1)


@FEW
@given(
    path=st.sampled_from(["version", "expires", "meta", "root_version", "issued_ms", "spec_version", "_type"]),
    value=JSON,
)
def test_a_true_signature_over_nonsense_is_refused_or_harmless(world, path, value):
    fleet, device = world

    def nonsense(signed: Signed) -> None:
        true = signed.to_dict

        def to_dict() -> dict[str, Any]:
            return {**true(), path: value}

        signed.to_dict = to_dict  # type: ignore[method-assign]

    try:
        broker = forged(fleet, {"timestamp": nonsense})
    except (SerializationError, UnsignedMetadataError):
        return  # python-tuf does not sign everything
    kept = dict(device.files)
    try:
        assert isinstance(device.look(broker, fleet.now_ms, final=True), Missing | Resolved)
    except TrustError:
        pass
    finally:
        assert still_believes(world, 1)
        device.files = kept
        device.boot()


@FEW
@given(
    names=st.lists(st.sampled_from(["1.root.json", "timestamp.json", "snapshot.json", "resolved.timestamp.json"])),
    data=GARBAGE,
)
def test_garbage_in_the_kept_files_is_survived(world, names, data):
    fleet, device = world
    kept = dict(device.files)
    device.files = {**kept, **dict.fromkeys(names, data)}

    device.boot()

    assert isinstance(device.look(fleet.broker(), fleet.now_ms), Missing)
    device.remember(fleet.now_ms)
    device.files = kept
    device.boot()
    assert still_believes(world, 1)
