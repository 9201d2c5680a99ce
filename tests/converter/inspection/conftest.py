"""Fixtures of the inspection's tests: the commands in this process; their children are real."""

from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from edgeferry.converter.commands.inspect import inspect
from edgeferry.converter.commands.predict import predict


@pytest.fixture
def run_inspect() -> Callable[..., Result]:
    """Return a function that runs `edgeferry inspect` with these arguments."""
    return lambda *arguments: CliRunner().invoke(inspect, [str(one) for one in arguments])


@pytest.fixture
def run_predict() -> Callable[..., Result]:
    """Return a function that runs `edgeferry predict` with these arguments."""
    return lambda *arguments: CliRunner().invoke(predict, [str(one) for one in arguments])
