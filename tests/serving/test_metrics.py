import numpy as np

from mainspring.serving.metrics import Histogram, ModelMetrics, render


def test_a_histogram_counts_below_each_bound():
    seen = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        seen.observe(value)
    seen.observe(0.5, 10)
    assert list(seen.lines("x", 'a="b",')) == [
        'x_bucket{a="b",le="0.1"} 2',
        'x_bucket{a="b",le="1.0"} 13',
        'x_bucket{a="b",le="+Inf"} 14',
        f'x_sum{{a="b"}} {seen.sum!r}',
        'x_count{a="b"} 14',
    ]
    assert seen.count == 14
    assert round(seen.sum, 6) == 12.65


def test_the_text_is_what_prometheus_reads():
    from prometheus_client.parser import text_string_to_metric_families

    metrics = ModelMetrics("late_ride")
    metrics.variants["champion"].requests = 3
    metrics.variants["challenger"].failed("output", 2)
    metrics.reject("contract")
    metrics.latency["queue"].observe(0.002, 3)
    found = {
        (s.name, s.labels.get("variant"), s.labels.get("reason"), s.labels.get("part"), s.labels.get("le")): s.value
        for family in text_string_to_metric_families(render([metrics], {"ready": 1.0, "sent": 1_137_493}))
        for s in family.samples
    }
    assert found["mainspring_requests_total", "champion", None, None, None] == 3
    assert found["mainspring_failures_total", "challenger", "output", None, None] == 2
    assert found["mainspring_rejected_total", None, "contract", None, None] == 1
    assert found["mainspring_latency_seconds_bucket", None, None, "queue", "0.0025"] == 3
    assert found["mainspring_latency_seconds_bucket", None, None, "queue", "0.001"] == 0
    assert found["mainspring_ready", None, None, None, None] == 1
    assert found["mainspring_sent", None, None, None, None] == 1_137_493


def test_features_are_counted_by_view_and_status():
    metrics = ModelMetrics("late_ride")
    metrics.count_features("driver", np.array([[0, 0, 1, 0], [4, 0, 0, 4]], np.uint8).T)
    metrics.count_features("driver", np.array([[0]], np.uint8))
    text = render([metrics], {})
    assert 'mainspring_features_served_total{model="late_ride",view="driver",status="present"} 6' in text
    assert 'mainspring_features_served_total{model="late_ride",view="driver",status="unavailable"} 2' in text
