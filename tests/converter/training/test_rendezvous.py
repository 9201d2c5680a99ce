"""Workers begin together, or say who is missing."""

import socket
from concurrent.futures import ThreadPoolExecutor

from edgeferry.converter.errors import Code, ConverterError, RequestError
from edgeferry.converter.training.rendezvous import meet
from edgeferry.converter.training.strategies import Cluster
from tests.brokers import free_port


def workers(count: int = 3) -> tuple[str, ...]:
    return tuple(f"127.0.0.1:{free_port()}" for _ in range(count))


def outcomes(addresses: tuple[str, ...], keys: dict[int, str], patience_s: float = 20) -> dict[int, object]:
    """Return what each worker that comes says: None, or its error."""

    def come(index: int) -> object:
        try:
            return meet(Cluster(addresses, index), keys[index], say=lambda _: None, patience_s=patience_s)
        except ConverterError as err:
            return err

    with ThreadPoolExecutor(len(keys)) as pool:
        return dict(zip(keys, pool.map(come, keys), strict=True))


def test_all_begin_when_the_last_one_has_come():
    assert outcomes(workers(), {2: "same", 0: "same", 1: "same"}) == {2: None, 0: None, 1: None}


def test_a_worker_that_never_comes_is_named():
    addresses = workers()

    found = outcomes(addresses, {0: "same", 1: "same"}, patience_s=1)

    assert str(found[0]).startswith(f"worker 2 ({addresses[2]}) has not come; start all workers within")
    assert found[0].code is Code.WORKER_MISSING
    assert str(found[1]).startswith(f"worker 0 ({addresses[0]}) has not come")


def test_a_worker_with_another_training_is_named_to_both():
    addresses = workers(2)

    found = outcomes(addresses, {0: "one", 1: "other"})

    for error in found.values():
        assert isinstance(error, RequestError)
        assert str(error).startswith(f"worker 1 ({addresses[1]}) was started with another model, recipe or data")


def test_whoever_talks_nonsense_is_not_counted():
    addresses = workers(2)
    host, port = addresses[0].split(":")

    with ThreadPoolExecutor(1) as pool:
        chief = pool.submit(outcomes, addresses, {0: "same"}, 2)
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"index": 1}\n', b""):
            for _ in range(100):
                try:
                    with socket.create_connection((host, int(port)), timeout=1) as link:
                        link.sendall(words)
                    break
                except ConnectionRefusedError:  # it does not listen yet
                    continue
        error = chief.result()[0]

    assert error.code is Code.WORKER_MISSING


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        found = outcomes((address, *workers(1)), {0: "same"})

    assert str(found[0]).startswith(f"{address}: cannot be listened on")
