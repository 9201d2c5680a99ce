"""How a command of the converter ends: an error that is fit to show becomes one line and an exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from edgeferry.converter.errors import ConverterError

__all__ = ["explained_errors"]


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn an error of the converter into its sentence on standard error and its exit code."""
    try:
        yield
    except ConverterError as err:
        click.echo(f"edgeferry: {err.line}", err=True)
        sys.exit(err.exit_code)
