"""The page at ``/``: what is loaded, how it does, what went wrong last, and a form to try a model.

One document, rendered whole for each request: nothing is fetched from elsewhere, and the content security policy allows
the style and the script in it by their hashes alone. Everything that comes from outside is escaped. What a client has
sent is not shown: of errors that are its own, only their kind.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote

import msgspec

from edgeferry import __version__
from edgeferry.agent.serving.http_message import Response
from edgeferry.agent.serving.metrics import Refusal
from edgeferry.agent.serving.registry import Registry, ServedVersion
from edgeferry.inference.quantization import is_quantized
from edgeferry.wire.messages import Code

__all__ = ["status_page"]

_WIDTH, _HEIGHT = 120, 24
_OWN_MISTAKES = {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION}  # their words quote the request


def status_page(registry: Registry, refusals: Sequence[Refusal], *, rss_bytes: int, now_s: float) -> Response:
    """Return the page.

    Args:
        registry: What is loaded.
        refusals: What went wrong, the last first.
        rss_bytes: Memory of the serving process.
        now_s: By ``time.monotonic``.
    """
    template, policy = _template()
    loaded = [served for versions in registry.models().values() for served in versions]
    about = f"edgeferry {__version__}, {len(loaded)} loaded, {rss_bytes / (1 << 20):.0f} MiB; as of when it was opened"
    page = template.substitute(
        about=escape(about),
        models="\n".join(_row(served, registry, now_s) for served in loaded) or _nothing("no model is loaded", 9),
        errors=_errors(refusals),
        choices=escape(msgspec.json.encode([_choice(served) for served in loaded]).decode()),
        options="".join(_option(number, served) for number, served in enumerate(loaded)),
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return Response(200, [page.encode()], "text/html; charset=utf-8", headers)


@cache
def _template() -> tuple[Template, str]:
    text = files("edgeferry.agent.serving").joinpath("status.html").read_text("utf-8")
    hashes = {tag: _hash_of(text, tag) for tag in ("style", "script")}
    policy = (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; connect-src 'self'; "
        "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Template(text), policy


def _hash_of(page: str, tag: str) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = hashlib.sha256(found[1].encode() if found else b"").digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _row(served: ServedVersion, registry: Registry, now_s: float) -> str:
    figures = served.queue.stats.figures(now_s)
    failed = figures["errors_total"]
    cells = (
        f"<td>{escape(served.name)}</td>",
        _number(str(served.version)),
        f"<td>{_labels(served, registry)}</td>",
        f'<td class="soft">{escape(_takes(served))}</td>',
        _number(str(figures["total"])),
        _number(str(failed), is_bad=bool(failed)),
        _number(_milliseconds(figures.get("p50_ms"))),
        _number(_milliseconds(figures.get("p95_ms"))),
        f"<td>{_sparkline(served.queue.stats.latencies_ms(now_s))}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>"


def _labels(served: ServedVersion, registry: Registry) -> str:
    names = [label for label, version in registry.labels(served.name).items() if version == served.version]
    percent = registry.percent(served.name)
    shown = [(label, f"{label} {percent}%" if label == "canary" and percent else label) for label in sorted(names)]
    return " ".join(f'<span class="label {escape(label)}">{escape(text)}</span>' for label, text in shown)


def _takes(served: ServedVersion) -> str:
    return ", ".join(f"{spec.name} {spec.datatype}[{'x'.join(map(str, spec.shape))}]" for spec in served.inputs)


def _sparkline(latencies_ms: Sequence[float]) -> str:
    """Return the latencies as a line, the longest at the top."""
    if len(latencies_ms) < 2:
        return '<span class="soft">-</span>'
    top, step = max(latencies_ms) or 1.0, _WIDTH / (len(latencies_ms) - 1)
    points = " ".join(
        f"{i * step:.1f},{_HEIGHT - 2 - (_HEIGHT - 4) * ms / top:.1f}" for i, ms in enumerate(latencies_ms)
    )
    title = f"{len(latencies_ms)} requests, at most {max(latencies_ms):.1f} ms"
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f'<title>{title}</title><polyline points="{points}"/></svg>'
    )


def _errors(refusals: Iterable[Refusal]) -> str:
    rows = [
        f'<tr><td class="soft">{time.strftime("%H:%M:%S", time.localtime(each.at_s))}</td><td>{escape(each.model)}</td>'
        f'<td class="bad">{each.code}</td><td>{escape(_words_of(each))}</td></tr>'
        for each in refusals
    ]
    if not rows:
        return '<p class="soft">none since the process began</p>'
    head = "<thead><tr><th>at</th><th>model</th><th>code</th><th>why</th></tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _words_of(refusal: Refusal) -> str:
    return "the request was not what the model takes" if refusal.code in _OWN_MISTAKES else refusal.detail[:200]


def _choice(served: ServedVersion) -> Mapping[str, Any]:
    """Return what the form needs to ask this version: real numbers where the model is quantized."""
    inputs = [
        {"name": spec.name, "shape": spec.shape, "datatype": "FP32" if is_quantized(spec) else spec.datatype}
        for spec in served.inputs
    ]
    return {"path": f"/v2/models/{quote(served.name, safe='')}/versions/{served.version}/infer", "inputs": inputs}


def _option(number: int, served: ServedVersion) -> str:
    return f'<option value="{number}">{escape(served.name)} {served.version}</option>'


def _number(text: str, *, is_bad: bool = False) -> str:
    return f'<td class="number{" bad" if is_bad else ""}">{escape(text)}</td>'


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"


def _nothing(words: str, columns: int) -> str:
    return f'<tr><td colspan="{columns}" class="soft">{words}</td></tr>'
