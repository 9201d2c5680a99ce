"""The serving process from its first to its last moment."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgeferry.agent.blackbox import Blackbox
from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving.connection import Limits
from edgeferry.agent.serving.http_server import HttpServer, Listener
from edgeferry.agent.serving.lifeline import die_with_parent
from edgeferry.agent.serving.listening import ListenError, listen_tcp, listen_unix
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.registry import Registry
from edgeferry.agent.serving.rest import RestInterface

__all__ = ["Serving", "start_serving"]

logger = logging.getLogger(__name__)

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_GRACE_S = 5.0
_CLOSE_S = 1.0
_EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server.

    Attributes:
        http: HOST:PORT where it listens; empty for nowhere.
    """

    server: HttpServer
    registry: Registry
    http: str

    def stop(self) -> bool:
        """Answer what is being asked, then unload everything; return False when a run did not end in time."""
        self.server.stop(_GRACE_S)
        return self.registry.close(_CLOSE_S)


def start_serving(options: ServingOptions) -> Serving:
    """Return a server that answers already.

    Raises:
        ListenError: It cannot listen where it shall.
        OSError: The blackbox cannot be made.
    """
    listeners = [Listener(listen_unix(options.socket), trusted=True)]
    http = ""
    if options.http:
        tcp = listen_tcp(options.http, allow_remote=options.allow_remote)
        listeners.append(Listener(tcp, trusted=False))
        host, port = tcp.getsockname()[:2]
        http = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    blackbox = Blackbox(options.blackbox)
    blackbox.open()
    timeout_s = options.request_timeout_s
    registry = Registry(threads=options.threads, queue=options.queue, request_timeout_s=timeout_s, blackbox=blackbox)
    rest = RestInterface(registry, Metrics(), request_timeout_s=timeout_s)
    limits = Limits(body_bytes=options.body_limit_bytes, bodies_bytes=2 * options.body_limit_bytes)
    server = HttpServer(listeners, rest.handle, limits)
    server.start()
    return Serving(server, registry, http)


def run(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = ServingOptions.parse(arguments)
    die_with_parent(options.parent_pid)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with _stop_signals() as stop_signals:
        try:
            serving = start_serving(options)
        except (ListenError, OSError) as err:
            logger.error("cannot serve: %s", err)  # noqa: TRY400 - a sentence for a person; there is no bug to trace
            return _EXIT_CONFIGURATION
        logger.info("serving on %s%s", options.socket, f" and http://{serving.http}" if serving.http else "")
        os.read(stop_signals, 1)
        logger.info("stopping")
        all_ended = serving.stop()
    options.socket.unlink(missing_ok=True)
    if not all_ended:
        logging.shutdown()
        os._exit(0)  # tearing Python down below a thread that still runs a model could crash
    return 0


@contextmanager
def _stop_signals() -> Iterator[int]:
    """Give a descriptor that becomes readable when the process shall end.

    The kernel may deliver the signal to any thread, and numpy starts some of its own as it is imported: so neither a
    mask and sigwait() nor a handler that only the main thread runs would do.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former_descriptor = signal.set_wakeup_fd(writer)
    former_handlers = {number: signal.signal(number, lambda *_: None) for number in _STOP_SIGNALS}
    try:
        yield reader
    finally:
        for number, handler in former_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former_descriptor)
        os.close(reader)
        os.close(writer)
