"""Which HTTP server the serving process is built on: round trips of an echo, on this machine, in one run.

    python bench/http_servers.py

Compares the house's own layer over plain sockets, the standard library's `http.server`, and uvicorn with starlette
(`pip install uvicorn starlette`; left out when they are missing). Each runs alone in a process of its own; the client
sends 150 kB and takes 1 kB back over one kept connection, as a client of an image model does.
"""

# ruff: noqa: PLC0415 - each server's process imports its own server alone, or its memory would be that of all
import argparse
import contextlib
import importlib.util
import socket
import statistics
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

BODY = bytes(150_528)  # a 224 x 224 colour image
ANSWER = bytes(1000)


def serve_house(port: int) -> None:
    from edgeferry.agent.serving.http_message import Response
    from edgeferry.agent.serving.http_server import HttpServer, Listener
    from edgeferry.agent.serving.listening import listen_tcp

    listener = listen_tcp(f"127.0.0.1:{port}", allow_remote=False)
    HttpServer([Listener(listener, trusted=False)], lambda _: Response(200, [ANSWER])).start()
    time.sleep(3600)


def serve_standard_library(port: int) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(ANSWER)))
            self.end_headers()
            self.wfile.write(ANSWER)

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def serve_uvicorn(port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def echo(request: Request) -> Response:
        await request.body()
        return Response(ANSWER)

    application = Starlette(routes=[Route("/", echo, methods=["POST"])])
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="error", access_log=False)


SERVERS = {"house": serve_house, "http.server": serve_standard_library, "uvicorn": serve_uvicorn}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


def round_trip_ms(port: int, requests: int) -> tuple[float, float]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("POST", "/", BODY)
        connection.getresponse().read()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def rss_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--serve", choices=SERVERS)
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    if arguments.serve:
        SERVERS[arguments.serve](arguments.port)
        return
    print(f"{'server':12} {'p50 ms':>8} {'p99 ms':>8} {'RSS MiB':>8}")
    for name in SERVERS:
        if name == "uvicorn" and importlib.util.find_spec("uvicorn") is None:
            continue
        port = free_port()
        process = subprocess.Popen([sys.executable, __file__, "--serve", name, "--port", str(port)])
        try:
            wait_for(port)
            round_trip_ms(port, 50)
            p50, p99 = round_trip_ms(port, arguments.requests)
            print(f"{name:12} {p50:8.3f} {p99:8.3f} {rss_mib(process.pid):8.1f}")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
