"""Who may come in from other machines: encryption and a bearer token, both or neither.

On the loopback address neither is needed; anywhere else both are.
"""

import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.listening import ListenError
from edgeferry.wire.messages import Code, Reason

if TYPE_CHECKING:
    import ssl

__all__ = ["Guard", "load_guard"]

_MIN_TOKEN_CHARACTERS = 16
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Guard:
    """What protects the network listeners.

    Attributes:
        certificate: PEM file of the server's certificate chain; None for no encryption.
        key: PEM file of its private key.
        token: What clients have to show; empty for nothing.
    """

    certificate: Path | None = None
    key: Path | None = None
    token: str = field(default="", repr=False)

    @property
    def is_complete(self) -> bool:
        """Return whether other machines may connect."""
        return bool(self.certificate and self.token)

    def check(self, authorization: str) -> None:
        """Do nothing when ``authorization`` shows the token, or none is needed.

        Raises:
            RequestError: It does not.
        """
        if not self.token:
            return
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), self.token.encode()):
            detail = "send the token of this server as Authorization: Bearer TOKEN"
            raise RequestError(Code.UNAUTHENTICATED, Reason.BAD_REQUEST, detail)

    def tls_context(self) -> "ssl.SSLContext | None":
        """Return the context for the HTTP listener, or None without encryption.

        Raises:
            ListenError: The certificate or its key cannot be used.
        """
        if not (self.certificate and self.key):
            return None
        import ssl  # noqa: PLC0415 - 3 MiB that most devices do without

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as err:
            detail = f"{self.certificate} and {self.key} cannot be used as certificate and key: {err}"
            raise ListenError(detail) from err
        return context


def load_guard(certificate: Path | None, key: Path | None, token_file: Path | None) -> Guard:
    """Return the protection that these files make.

    Raises:
        ListenError: A certificate without its key, or a token that cannot be read or is too short.
    """
    if bool(certificate) != bool(key):
        raise ListenError("a certificate and its key belong together: --tls-certificate and --tls-key")
    return Guard(certificate, key, _read_token(token_file) if token_file else "")


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            token = file.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ListenError(f"cannot read the token from {path}: {err}") from err
    if len(token) < _MIN_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        wanted = f"wanted at least {_MIN_TOKEN_CHARACTERS} characters without spaces, as `openssl rand -hex 24` makes"
        raise ListenError(f"the token in {path} has {len(token)} characters; {wanted}")
    return token
