"""The serving process from its first to its last moment."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from edgeferry.agent.blackbox import Blackbox
from edgeferry.agent.logs import log_to_stderr
from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving.connection import Limits
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.guard import Guard, load_guard
from edgeferry.agent.serving.http_server import HttpServer, Listener
from edgeferry.agent.serving.lifeline import die_with_parent
from edgeferry.agent.serving.listening import ListenError, listen_tcp, listen_unix, resolve
from edgeferry.agent.serving.metrics import Metrics
from edgeferry.agent.serving.model_folder import FolderError, find_models
from edgeferry.agent.serving.registry import Registry
from edgeferry.agent.serving.rest import RestInterface

__all__ = ["Serving", "start_serving"]

logger = logging.getLogger(__name__)

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
_GRACE_S = 5.0
_CLOSE_S = 1.0
_EXIT_CONFIGURATION = 78  # EX_CONFIG of sysexits.h


class _CallServer(Protocol):
    """What is known here of the gRPC server, which is imported only when it is wanted."""

    def stop(self, grace_s: float) -> threading.Event:
        """Take no more calls, and let those that run finish; return what tells that it is over."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server.

    Attributes:
        http: HOST:PORT where it listens; empty for nowhere.
        grpc: The same for gRPC.
    """

    server: HttpServer
    calls: _CallServer | None
    registry: Registry
    http: str
    grpc: str

    def stop(self) -> bool:
        """Answer what is being asked, then unload everything; return False when a run did not end in time."""
        calls_ended = self.calls.stop(_GRACE_S) if self.calls else None
        self.server.stop(_GRACE_S)  # both at the same time
        if calls_ended:
            calls_ended.wait(_CLOSE_S)
        return self.registry.close(_CLOSE_S)


def start_serving(options: ServingOptions) -> Serving:
    """Return a server that answers already.

    Raises:
        ListenError: It cannot listen where it shall.
        FolderError: The folder of models does not hold what it has to.
        RequestError: A model in there cannot be loaded.
        OSError: The blackbox cannot be made.
    """
    guard = load_guard(options.tls_certificate, options.tls_key, options.token_file)
    guard.tls_context()  # told now, not when the first client comes
    orders = find_models(options.models, all_versions=options.all_versions) if options.models else []
    listeners, http = _listeners(options, guard)
    blackbox = Blackbox(options.blackbox)
    blackbox.open()
    timeout_s = options.request_timeout_s
    registry = Registry(threads=options.threads, queue=options.queue, request_timeout_s=timeout_s, blackbox=blackbox)
    for order in orders:
        registry.load(order)
    metrics = Metrics()
    calls, grpc = _start_grpc(options, registry, metrics, guard) if options.grpc else (None, "")
    rest = RestInterface(registry, metrics, request_timeout_s=timeout_s)
    limits = Limits(body_bytes=options.body_limit_bytes, bodies_bytes=2 * options.body_limit_bytes)
    server = HttpServer(listeners, rest.handle, limits)
    server.start()
    return Serving(server, calls, registry, http, grpc)


def _listeners(options: ServingOptions, guard: Guard) -> tuple[list[Listener], str]:
    listeners = [Listener(listen_unix(options.socket), trusted=True)] if options.socket else []
    if not options.http:
        return listeners, ""
    tcp = listen_tcp(options.http, allow_remote=guard.is_complete)
    host, port = tcp.getsockname()[:2]
    return [*listeners, Listener(tcp, trusted=False, guard=guard)], _address(host, port)


def _start_grpc(options: ServingOptions, registry: Registry, metrics: Metrics, guard: Guard) -> tuple[_CallServer, str]:
    _, target = resolve(options.grpc or "", allow_remote=guard.is_complete)
    try:
        from edgeferry.agent.serving.grpc_server import GrpcServer  # noqa: PLC0415 - 20 MiB that most devices do without
    except ModuleNotFoundError as err:
        raise ListenError(f"gRPC needs grpcio: pip install 'edgeferry[grpc]' ({err})") from err
    timeout_s, limit = options.request_timeout_s, options.body_limit_bytes
    server = GrpcServer(registry, metrics, guard, request_timeout_s=timeout_s, max_message_bytes=limit)
    port = server.start(_address(target[0], target[1]))
    return server, _address(target[0], port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(arguments: list[str]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    options = ServingOptions.parse(arguments)
    die_with_parent(options.parent_pid)
    log_to_stderr(pattern="%(levelname)s %(name)s: %(message)s")
    with _stop_signals() as stop_signals:
        try:
            serving = start_serving(options)
        except (ListenError, FolderError, RequestError, OSError) as err:
            logger.error("cannot serve: %s", err)  # noqa: TRY400 - a sentence for a person; there is no bug to trace
            return _EXIT_CONFIGURATION
        logger.info("serving on %s", " and ".join(_places(options, serving)))
        os.read(stop_signals, 1)
        logger.info("stopping")
        all_ended = serving.stop()
    if options.socket:
        options.socket.unlink(missing_ok=True)
    if not all_ended:
        logging.shutdown()
        os._exit(0)  # tearing Python down below a thread that still runs a model could crash
    return 0


def _places(options: ServingOptions, serving: Serving) -> list[str]:
    scheme = "https" if options.tls_certificate else "http"
    places = [str(options.socket)] if options.socket else []
    places += [f"{scheme}://{serving.http}"] if serving.http else []
    return [*places, f"grpc://{serving.grpc}"] if serving.grpc else places


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
