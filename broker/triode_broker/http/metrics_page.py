"""The page of metrics, as Prometheus reads it: figures of one or more nodes of this host, in the table's words.

Knows prometheus_client, which the extra `metrics` brings, and no broker. The surprising decision: nothing is
registered anywhere. Each scrape reads the figures as they stand and builds its page from them, so the broker keeps
plain integers and never learns of Prometheus.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from triode_broker.http.metrics_table import METRICS, Metric
from triode_broker.release import install

MISSING: Final = f"metrics need the extra `metrics` where the broker runs: {install('metrics')}"


class NoMetrics(ValueError):
    """The library is not installed; `str()` says what to do."""


def page(reports: Sequence[Mapping[str, Any]], accept: str = "") -> tuple[str, bytes]:
    """Content type and body; `accept` is the request's header (OpenMetrics where it is asked for).

    `reports`: the figures of each node, by name once each. Raises NoMetrics.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise NoMetrics(MISSING) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(reports))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    """What prometheus_client asks for families."""

    def __init__(self, reports: Sequence[Mapping[str, Any]]) -> None:
        self._reports = reports

    def describe(self) -> Sequence[Any]:
        """Nothing ahead: names stand in the table."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Each family once, with the samples of all nodes."""
        for metric in METRICS:
            yield _family(metric, self._reports)


def _family(metric: Metric, reports: Sequence[Mapping[str, Any]]) -> Any:
    from prometheus_client import core

    kinds: dict[str, Any] = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
        "info": core.InfoMetricFamily,
    }
    if metric.kind == "info":
        family = kinds["info"](f"triode_{metric.name}", metric.help, labels=["node"])
        for figures in reports:
            for values, _ in metric.read(figures):
                family.add_metric([figures["node"]], dict(zip(metric.labels, values, strict=True)))
        return family
    family = kinds[metric.kind](f"triode_{metric.name}", metric.help, labels=["node", *metric.labels])
    for figures in reports:
        for values, value in metric.read(figures):
            if metric.kind == "histogram":
                buckets = _buckets(figures["bounds_us"], value["counts"])
                family.add_metric([figures["node"], *values], buckets, value["sum_us"] / 1_000_000)
            else:
                family.add_metric([figures["node"], *values], float(value))
    return family


def _buckets(bounds_us: Sequence[int], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, by upper bound in seconds."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip([*(repr(bound / 1_000_000) for bound in bounds_us), "+Inf"], counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
