"""Bytes by kind of blob, as metrics of either kind of neuron."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric


def traffic(sent: Mapping[str, int], received: Mapping[str, int]) -> Iterator[Metric]:
    """Bytes by kind of blob."""
    for name, text, by_kind in (
        ("iota_received_bytes", "Bytes fetched, by kind of blob.", received),
        ("iota_sent_bytes", "Bytes served, by kind of blob.", sent),
    ):
        family = CounterMetricFamily(name, text, labels=["kind"])
        for kind, value in sorted(by_kind.items()):
            family.add_metric([kind], value)
        yield family
