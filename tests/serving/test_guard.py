"""Other machines: encryption and token, or no listener at all."""

import json
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.serving.conftest import Server

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.guard import Guard, load_guard
from edgeferry.agent.serving.listening import ListenError

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a certificate for this machine, its key, and a token; return the options that name them."""
    folder = tmp_path_factory.mktemp("identity")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    (folder / "token").write_text(TOKEN + "\n")
    return {
        "tls_certificate": folder / "cert.pem",
        "tls_key": folder / "key.pem",
        "token_file": folder / "token",
    }


def ask(server: Server, identity: dict[str, Path], path: str, *, token: str = "", body: bytes | None = None) -> Any:
    """Return status and answer of a request over TLS."""
    host, port = "127.0.0.1", server.address[1]
    request = urllib.request.Request(f"https://{host}:{port}{path}", body)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    context = ssl.create_default_context(cafile=str(identity["tls_certificate"]))
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        return err.code, err.read()


def test_other_machines_are_served_with_encryption_and_token_alone(
    serve: Callable[..., Server], identity: dict[str, Path]
) -> None:
    server = serve(http="0.0.0.0:0", **identity)
    server.load(quantized=False, features=50_000, classes=2)
    body = json.dumps({"inputs": [[0.5] * 50_000]}).encode()  # in several TLS records

    assert ask(server, identity, "/v2/health/live", token=TOKEN) == (200, b"")
    status, answer = ask(server, identity, "/v1/models/digits:predict", token=TOKEN, body=body)
    assert (status, len(json.loads(answer)["outputs"][0])) == (200, 2)
    for token in ("", TOKEN[:-1], "ü" * 20):
        status, answer = ask(server, identity, "/v2/health/live", token=token.encode().decode("latin-1"))
        assert status == 401
        assert b"Authorization: Bearer TOKEN" in answer


def test_a_large_answer_goes_over_tls_too(serve: Callable[..., Server], identity: dict[str, Path]) -> None:
    server = serve(http="127.0.0.1:0", **identity)
    server.load(quantized=False, features=2, classes=100_000)

    status, answer = ask(server, identity, "/v1/models/digits:predict", token=TOKEN, body=b'{"inputs": [[1, 2]]}')

    assert (status, len(json.loads(answer)["outputs"][0])) == (200, 100_000)


def test_who_speaks_no_tls_or_nothing_at_all_keeps_nobody_out(
    serve: Callable[..., Server], identity: dict[str, Path]
) -> None:
    server = serve(http="127.0.0.1:0", **identity)
    with socket.create_connection(server.address) as plain, socket.create_connection(server.address):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.settimeout(10)
        with suppress(ConnectionResetError):  # it ends the connection, in one way or the other
            plain.recv(100)

        assert ask(server, identity, "/v2/health/live", token=TOKEN)[0] == 200


def test_grpc_wants_both_as_well(serve: Callable[..., Server], identity: dict[str, Path]) -> None:
    server = serve(grpc="0.0.0.0:0", **identity)
    credentials = grpc.ssl_channel_credentials(identity["tls_certificate"].read_bytes())
    port = server.serving.grpc.rpartition(":")[2]
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")

        with pytest.raises(grpc.RpcError) as caught:
            check(b"", timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        assert check(b"", timeout=10, metadata=[("authorization", f"Bearer {TOKEN}")]) == b"\x08\x01"


@pytest.mark.parametrize("kept", [[], ["token_file"], ["tls_certificate", "tls_key"]])
@pytest.mark.parametrize("listener", ["http", "grpc"])
def test_without_both_there_is_no_listener(
    serve: Callable[..., Server], identity: dict[str, Path], kept: list[str], listener: str
) -> None:
    with pytest.raises(ListenError, match="is open to other machines, without encryption and without a token"):
        serve(**{listener: "0.0.0.0:0"}, **{name: identity[name] for name in kept})


def test_grpc_without_grpcio_is_told(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edgeferry.agent.serving.grpc_server", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)  # Python's word for "not there"

    with pytest.raises(ListenError, match=r"gRPC needs grpcio: pip install 'edgeferry\[grpc\]'"):
        serve(grpc="127.0.0.1:0")


def test_a_taken_port_is_told_for_grpc(serve: Callable[..., Server]) -> None:
    taken = serve(grpc="127.0.0.1:0").serving.grpc

    with pytest.raises(ListenError, match="cannot listen on"):
        serve(grpc=taken)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i, _: load_guard(i["tls_certificate"], None, None), "belong together"),
        (lambda i, d: load_guard(None, None, d / "none"), "cannot read the token"),
        (lambda i, d: load_guard(None, None, write(d, "short")), "has 5 characters; wanted at least 16"),
        (lambda i, d: load_guard(None, None, write(d, "with spaces in it, many")), "without spaces"),
        (lambda i, d: load_guard(None, None, write(d, "ü" * 20)), "cannot read the token"),
        (lambda i, d: load_guard(d / "none", d / "none", None).tls_context(), "cannot be used as certificate and key"),
    ],
)
def test_a_mistake_in_the_files_is_told(
    identity: dict[str, Path], tmp_path: Path, make: Callable[..., object], message: str
) -> None:
    with pytest.raises(ListenError, match=message):
        make(identity, tmp_path)


def write(folder: Path, token: str) -> Path:
    (folder / "t").write_text(token)
    return folder / "t"


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", TOKEN])
def test_only_the_token_itself_opens(shown: str) -> None:
    with pytest.raises(RequestError):
        Guard(token=TOKEN).check(shown)
    Guard(token=TOKEN).check(f"bearer {TOKEN}")
    Guard().check(shown)


def test_the_token_is_in_no_message() -> None:
    assert TOKEN not in repr(Guard(token=TOKEN))
