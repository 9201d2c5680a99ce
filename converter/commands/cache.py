"""`edgeferry cache`: what conversions remember of their stages, and how much room that takes."""

import json
import os
import re
import time
from typing import Any

import click

from edgeferry.converter.cache import DEFAULT_MAX_BYTES, Cache, default_folder
from edgeferry.converter.selection import in_mib
from edgeferry.converter.table import text_table

__all__ = ["cache"]

_UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Z]*)", re.ASCII)
_SHOWN_KEY = 12


class Size(click.ParamType[int]):
    """A number of bytes: ``500 MiB``, ``2GiB``, ``0``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes that ``value`` spells; anything else is an error of usage."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip().upper())
        if match is None or match[2] not in _UNITS or len(match[1]) > 20:
            self.fail(f"{value!r} is not a size; wanted a number with KiB, MiB or GiB: 500MiB", param, ctx)
        return int(float(match[1]) * _UNITS[match[2]])


@click.group()
def cache() -> None:
    """List or prune what conversions remember, so that the next one need not do it again.

    Example: edgeferry cache list
    """


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def list_(*, as_json: bool) -> None:
    """List the remembered stages, the least recently used first.

    Example: edgeferry cache list --json
    """
    store = _cache()
    held = store.held()
    size_bytes = sum(one.entry.size_bytes for one in held)
    if as_json:
        entries = [
            {"key": one.entry.key, "what": one.entry.what, "size_bytes": one.entry.size_bytes, "used_s": one.used_s}
            for one in held
        ]
        click.echo(json.dumps({"path": str(store.folder), "size_bytes": size_bytes, "entries": entries}, indent=1))
        return
    if held:
        rows = [
            (one.entry.key[:_SHOWN_KEY], in_mib(one.entry.size_bytes), _ago(one.used_s), one.entry.what) for one in held
        ]
        click.echo(text_table(("key", "size", "used", "stage"), rows))
    click.echo(f"{len(held)} stages, {in_mib(size_bytes)}, in {store.folder}")


@cache.command()
@click.option(
    "--max-size",
    "max_bytes",
    type=Size(),
    default=DEFAULT_MAX_BYTES,
    metavar="SIZE",
    help="Room for what stays: 500MiB, 2GiB; 0 for nothing. 4 GiB unless given, as after each conversion.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def prune(*, max_bytes: int, as_json: bool) -> None:
    """Throw away the stages that were not used for longest, until the others fit.

    Example: edgeferry cache prune --max-size 500MiB
    """
    store = _cache()
    gone = store.prune(max_bytes)
    left = store.held()
    freed_bytes, left_bytes = sum(one.size_bytes for one in gone), sum(one.entry.size_bytes for one in left)
    if as_json:
        summary = {"removed": len(gone), "freed_bytes": freed_bytes, "left": len(left), "size_bytes": left_bytes}
        click.echo(json.dumps(summary, indent=1))
        return
    click.echo(f"removed {len(gone)} stages, {in_mib(freed_bytes)}; {len(left)} stay, {in_mib(left_bytes)}")


def _cache() -> Cache:
    return Cache(default_folder(os.environ))


def _ago(used_s: float) -> str:
    seconds = max(0.0, time.time() - used_s)
    for name, length_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length_s:
            return f"{seconds / length_s:.0f} {name} ago"
    return "just now"
