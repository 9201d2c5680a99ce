"""Whether a broker lets somebody in yet: it reads its users again some moments after they were written."""

import time

from edgeferry.fleet.operator import BrokerError, Login, Operator
from edgeferry.fleet.settings import BrokerUrl

__all__ = ["wait_until_let_in"]

PATIENCE_S = 10.0
_PAUSE_S = 0.3


def wait_until_let_in(url: BrokerUrl, login: Login, *, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as the broker at ``url`` lets ``login`` in, under its user name as client id.

    Raises:
        BrokerError: It did not within ``patience_s``.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            with Operator(url, login, client_id=login.user):
                return
        except BrokerError:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(_PAUSE_S)
