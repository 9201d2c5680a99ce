"""A request to a group is answered by one of its devices, whichever the broker gives it to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from edgeferry.client import Client, InferenceError
from tests.brokers import TestBroker
from tests.client.conftest import connect
from tests.serving.conftest import Server

pytestmark = [pytest.mark.broker, pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)]

X = np.full((1, 64), 0.5, np.float32)


@pytest.fixture
def group(serve: Callable[..., Server], broker: TestBroker) -> Iterator[Client]:
    """Two devices of the group kitchens, with versions 1 and 2, and an application that asks the group."""
    passwords = [broker.add_device(name) for name in ("app", "pi-1", "pi-2")]
    with ExitStack() as stack:
        for number in (1, 2):
            server = serve()
            server.load(version=number)
            connect(stack, server, broker, f"pi-{number}", ("kitchens",))
        yield stack.enter_context(Client(f"{broker.url}/group:kitchens", user="app", password=passwords[0]))


def test_the_devices_of_a_group_share_its_requests(group: Client) -> None:
    versions = [group.infer("digits", {"": X}, timeout_s=20).version for _ in range(12)]

    assert set(versions) == {"1", "2"}


def test_an_error_comes_back_as_from_one_device(group: Client) -> None:
    with pytest.raises(InferenceError, match="'nobody' is not loaded"):
        group.predict("nobody", X, timeout_s=20)


def test_a_version_is_not_asked_of_a_group(group: Client) -> None:
    with pytest.raises(InferenceError, match="cannot be asked of a group"):
        group.predict("digits", X, version="canary", timeout_s=20)


def test_a_group_without_devices_ends_at_the_deadline(broker: TestBroker) -> None:
    password = broker.add_device("app")

    with (
        Client(f"{broker.url}/group:nobody", user="app", password=password) as client,
        pytest.raises(InferenceError, match="nobody gave no answer within 1 s"),
    ):
        client.predict("digits", X, timeout_s=1)
