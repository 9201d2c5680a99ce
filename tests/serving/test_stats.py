from edgeferry.agent.serving.stats import Durations, Stats, percentile


def test_nothing_measured_leaves_figures_out() -> None:
    assert Stats(0.0).figures(10.0) == {"total": 0, "errors_total": 0, "rps": 0.0}


def test_figures_cover_queue_and_run() -> None:
    stats = Stats(0.0)
    for number in range(1, 101):
        stats.succeeded(Durations(queue_s=0.001, invoke_s=number / 1e3), now_s=30.0, unix_ms=5)
    stats.failed(0.5, now_s=30.0, unix_ms=6)

    assert stats.figures(40.0) == {
        "total": 101,
        "errors_total": 1,
        "rps": 2.525,
        "p50_ms": 51.0,
        "p95_ms": 96.0,
        "p99_ms": 100.0,
        "queue_p95_ms": 1.0,
    }
    assert stats.totals.last_ms == 6


def test_what_is_older_than_a_minute_counts_in_the_totals_only() -> None:
    stats = Stats(0.0)
    stats.succeeded(Durations(queue_s=0.001, invoke_s=0.001), now_s=10.0, unix_ms=0)

    assert stats.figures(80.0) == {"total": 1, "errors_total": 0, "rps": 0.0}


def test_a_second_is_counted_anew_a_minute_later() -> None:
    stats = Stats(0.0)
    for now_s in (1.0, 61.5, 61.9):
        stats.succeeded(Durations(), now_s=now_s, unix_ms=0)

    assert stats.figures(62.0)["rps"] == round(2 / 60, 3)


def test_memory_is_bounded_and_the_newest_latencies_count() -> None:
    stats = Stats(0.0)
    for number in range(5000):
        stats.succeeded(Durations(invoke_s=1.0 if number < 2951 else 0.002), now_s=1.0, unix_ms=0)

    figures = stats.figures(2.0)

    assert figures["total"] == 5000
    assert figures["p99_ms"] == 2.0


def test_percentiles_are_nearest_ranks() -> None:
    assert percentile([1.0], 99) == 1.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.0


def test_where_the_time_of_all_requests_went_adds_up() -> None:
    stats = Stats(0.0)
    stats.succeeded(Durations(queue_s=1.0, input_s=2.0, invoke_s=3.0, output_s=4.0), now_s=1.0, unix_ms=0)
    stats.succeeded(Durations(queue_s=1.0, invoke_s=1.0), now_s=1.0, unix_ms=0)

    stats.handled(parse_s=5.0, output_s=6.0)

    assert stats.totals.spent == Durations(parse_s=5.0, queue_s=2.0, input_s=2.0, invoke_s=4.0, output_s=10.0)


def test_the_last_latencies_come_in_their_order_and_no_older_than_a_minute() -> None:
    stats = Stats(0.0)
    for number in range(100):
        stats.succeeded(Durations(invoke_s=number / 1e3), now_s=float(number), unix_ms=0)

    drawn = stats.latencies_ms(99.0)

    assert [round(latency_ms) for latency_ms in drawn] == list(range(40, 100))
    assert stats.latencies_ms(1000.0) == []


def test_they_stay_in_order_when_the_oldest_have_made_room() -> None:
    stats = Stats(0.0)
    for number in range(3000):
        stats.succeeded(Durations(invoke_s=number / 1e3), now_s=1.0, unix_ms=0)

    assert [round(latency_ms) for latency_ms in stats.latencies_ms(1.0)] == list(range(2940, 3000))
