"""The best known latency of a candidate: measured before published before this host's own."""

from dataclasses import replace

import pytest

from edgeferry.converter.latency import Basis, known_latency
from edgeferry.device_profiles import PublishedLatency, Scheme, Source, load_profile
from edgeferry.device_profiles.measurements import MeasuredLatency

PROFILE = load_profile("raspberry-pi-4")
PUBLISHED = PublishedLatency("digits 28x28", Scheme.INT8, 4, 9.0, Source(name="a paper"))
MEASURED = MeasuredLatency(
    profile="raspberry-pi-4",
    device="kitchen",
    model="digits",
    version=3,
    scheme="int8",
    sha256="a" * 64,
    threads=4,
    runs=100,
    p50_ms=6.125,
    p95_ms=7.0,
    peak_rss_bytes=1,
    measured_at="2026-01-02T03:04:05+00:00",
)


@pytest.mark.parametrize(
    ("measurements", "latencies", "wanted", "words"),
    [
        ((MEASURED,), (PUBLISHED,), Basis.MEASURED, "6.12 ms on kitchen"),
        ((), (PUBLISHED,), Basis.PUBLISHED, "9 ms published"),
        ((replace(MEASURED, scheme="float16"),), (), Basis.HOST, "0.5 ms here"),
        ((), (replace(PUBLISHED, model="letters 28x28"),), Basis.HOST, "0.5 ms here"),
    ],
)
def test_the_best_figure_is_told_with_where_it_comes_from(measurements, latencies, wanted: Basis, words: str) -> None:
    latency = known_latency("digits", Scheme.INT8, 0.5, replace(PROFILE, latencies=latencies), measurements)

    assert latency.basis is wanted
    assert str(latency) == words
    assert latency.is_of_device == (wanted is not Basis.HOST)
