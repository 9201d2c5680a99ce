"""Opens the sockets of the serving process."""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

__all__ = ["ListenError", "listen_tcp", "listen_unix", "resolve"]

_BACKLOG = 512


class ListenError(Exception):
    """The process cannot listen there; the message says why and what to do."""


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket at ``path`` that only its owner can open; what a dead process left is replaced.

    Raises:
        ListenError: Another process listens there, or the path cannot be used.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        mask = os.umask(0o177)  # chmod() after bind() would leave a moment in which others can connect
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
    except OSError as err:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {err.strerror or err}") from err
    return listener


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise ListenError(f"another process serves on {path}; end it, or choose another path")


def listen_tcp(address: str, *, allow_remote: bool) -> socket.socket:
    """Return a listening TCP socket.

    Args:
        address: HOST:PORT; the port 0 lets the system choose. An IPv6 host stands in brackets.
        allow_remote: Whether other machines may connect.

    Raises:
        ListenError: The address is malformed, taken, or open to other machines without leave.
    """
    family, target = resolve(address, allow_remote=allow_remote)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(target)
        listener.listen(_BACKLOG)
    except OSError as err:
        listener.close()
        raise ListenError(f"cannot listen on {address}: {err.strerror or err}; is another process there?") from err
    return listener


def resolve(address: str, *, allow_remote: bool) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return family and address of a place to listen at.

    Raises:
        ListenError: The address is malformed, or open to other machines without leave.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:8501")
    try:
        family, _, _, _, target = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except OSError as err:
        raise ListenError(f"{address!r} cannot be listened on: {err}") from err
    if not (allow_remote or ipaddress.ip_address(target[0]).is_loopback):
        raise ListenError(
            f"{address} is open to other machines, without encryption and without a token; listen on 127.0.0.1, "
            "or give a certificate, its key and a token: --tls-certificate, --tls-key and --token-file"
        )
    return family, target
