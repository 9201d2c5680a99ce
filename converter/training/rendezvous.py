"""Waits until every worker of a training is there, and sees that all of them mean the same training.

TensorFlow itself would wait for a worker that never comes without a word. So the chief listens where it will train,
each other worker tells it who it is and what it is about to do, and only when all have come they begin together.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

from edgeferry.converter.errors import Code, ConverterError, RequestError
from edgeferry.converter.training.strategies import Cluster

__all__ = ["DEFAULT_PATIENCE_S", "meet"]

DEFAULT_PATIENCE_S = 300.0

_TRY_EVERY_S = 0.2
_MAX_LINE_BYTES = 1024
_TALK_S = 10.0  # for one line


def meet(cluster: Cluster, key: str, *, say: Callable[[str], None], patience_s: float = DEFAULT_PATIENCE_S) -> None:
    """Return when all workers are there.

    Args:
        cluster: Who they are.
        key: What this worker is about to do: the hash of model, recipe and data.
        say: Called with a sentence.
        patience_s: How long to wait.

    Raises:
        ConverterError: Somebody has not come in time.
        RequestError: Somebody means another training.
    """
    end_s = time.monotonic() + patience_s
    if cluster.is_chief:
        _receive(cluster, key, end_s, say)
    else:
        _report(cluster, key, end_s, say)


def _receive(cluster: Cluster, key: str, end_s: float, say: Callable[[str], None]) -> None:
    missing = set(range(1, len(cluster.workers)))
    say(f"waiting for {len(missing)} other worker{'s' * (len(missing) > 1)}")
    host, _, port = cluster.workers[0].rpartition(":")
    with contextlib.ExitStack() as open_until_then:
        listener = open_until_then.enter_context(_listener(host, int(port)))
        here: list[socket.socket] = []
        while missing:
            listener.settimeout(_left(end_s, cluster, missing))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            open_until_then.enter_context(connection)
            index, told = _heard(connection)
            if index in missing:
                missing.remove(index)
                here.append(connection)
                if told != key:
                    for one in here:
                        _tell(one, {"other": index})
                    raise _different(cluster, index)
        for connection in here:
            _tell(connection, {"go": True})


def _report(cluster: Cluster, key: str, end_s: float, say: Callable[[str], None]) -> None:
    say(f"waiting for the chief, {cluster.workers[0]}")
    host, _, port = cluster.workers[0].rpartition(":")
    while True:
        left_s = _left(end_s, cluster, {0})
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=min(left_s, 5)) as link:
            _tell(link, {"index": cluster.index, "key": key})
            link.settimeout(left_s)
            answer = _line(link)
            if answer.get("go"):
                return
            if isinstance(other := answer.get("other"), int):
                raise _different(cluster, other)
        time.sleep(min(_TRY_EVERY_S, left_s))


def _left(end_s: float, cluster: Cluster, missing: set[int]) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        names = ", ".join(f"worker {index} ({cluster.workers[index]})" for index in sorted(missing))
        raise ConverterError(
            f"{names} has not come; start all workers within --worker-timeout, and see that they reach each other",
            code=Code.WORKER_MISSING,
        )
    return left_s


def _different(cluster: Cluster, index: int) -> RequestError:
    return RequestError(
        f"worker {index} ({cluster.workers[index]}) was started with another model, recipe or data than the chief; "
        "start all with the same"
    )


@contextlib.contextmanager
def _listener(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((host, port))
    except OSError as err:
        raise RequestError(f"{host}:{port}: cannot be listened on: {err.strerror or err}; name a free port") from err
    with listener:
        yield listener


def _heard(connection: socket.socket) -> tuple[int, str]:
    connection.settimeout(_TALK_S)
    told = _line(connection)
    index, key = told.get("index"), told.get("key")
    return (index, key) if isinstance(index, int) and isinstance(key, str) else (-1, "")


def _tell(connection: socket.socket, what: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # whoever has gone will be missed by TensorFlow
        connection.sendall(json.dumps(what).encode() + b"\n")


def _line(connection: socket.socket) -> dict[str, object]:
    received = b""
    while not received.endswith(b"\n") and len(received) < _MAX_LINE_BYTES:
        try:
            part = connection.recv(_MAX_LINE_BYTES)
        except OSError:
            part = b""
        if not part:
            return {}
        received += part
    try:
        told = json.loads(received)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
