"""How much of the time models may run."""

from collections.abc import Callable

import pytest

from edgeferry.agent.serving.pace import LONGEST_REST_S, Pace
from edgeferry.agent.serving_client import ServingError

from .conftest import Server, count_down


@pytest.mark.parametrize(("share", "busy_s", "rest_s"), [(1.0, 9.0, 0.0), (0.5, 0.2, 0.2), (0.25, 0.1, 0.3)])
def test_a_model_rests_in_proportion_to_its_run(share: float, busy_s: float, rest_s: float) -> None:
    pace = Pace()
    pace.share = share

    assert pace.rest_s(busy_s) == pytest.approx(rest_s)


def test_no_rest_is_longer_than_anybody_would_wait() -> None:
    pace = Pace()
    pace.share = 0.05

    assert pace.rest_s(60.0) == LONGEST_REST_S


def test_the_agent_sets_it_and_sees_it_and_every_request_is_answered_all_the_same(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    server.load_slow()
    server.client.set_share(0.05)

    answers = [server.infer("slow", inputs=count_down(1000.0)) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert server.client.stats()["share"] == 0.05


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5])
def test_a_share_that_is_none_is_refused(serve: Callable[..., Server], share: float) -> None:
    server = serve()

    with pytest.raises(ServingError, match="share"):
        server.client.set_share(share)

    assert server.client.stats()["share"] == 1.0
