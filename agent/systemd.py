"""Tells systemd how the agent is: READY, STATUS, WATCHDOG and STOPPING on $NOTIFY_SOCKET (sd_notify(3))."""

import logging
import os
import socket

__all__ = ["Notifier"]

logger = logging.getLogger(__name__)


class Notifier:
    """The way to the service manager; silent where there is none."""

    def __init__(self, address: str, watchdog_s: float) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls) -> "Notifier":
        """Return the notifier that the environment describes."""
        microseconds = os.environ.get("WATCHDOG_USEC", "0")
        watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else 0.0
        return cls(os.environ.get("NOTIFY_SOCKET", ""), watchdog_s)

    def ready(self, status: str) -> None:
        """Say that the agent has started."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Say what the agent is doing, for `systemctl status`."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the agent ends."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1.0)
            try:
                sender.sendto(text.encode(), self._address)
            except OSError as err:
                logger.warning("cannot reach the service manager: %s", err)
