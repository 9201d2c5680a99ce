"""What holds for every test: caches of the person who runs them are left alone, and a busy machine is no failure."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A shell has its background jobs ignore SIGINT, and they have all that they start: what tests Ctrl-C wants it back.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have every process that a test starts keep its cache in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
