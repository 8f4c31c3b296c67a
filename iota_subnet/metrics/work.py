"""The metrics of one miner: a pure function of its status document (docs/status.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from iota_subnet.metrics.traffic import traffic


def work_metrics(document: Mapping[str, Any], sent: Mapping[str, int], received: Mapping[str, int]) -> Iterator[Metric]:
    """All of a miner. `sent` and `received` are bytes by kind of blob."""
    standing = document.get("standing") or {}
    yield GaugeMetricFamily("iota_connected", "1 while the work channel is open.", float(bool(document["connected"])))
    seat = standing.get("seat")
    yield GaugeMetricFamily("iota_seat_stage", "The stage of its seat; -1: none.", seat["stage"] if seat else -1)
    leases = GaugeMetricFamily("iota_leases", "Leases of the newest epochs by outcome.", labels=["outcome"])
    for outcome in ("done", "refused", "failed"):
        leases.add_metric([outcome], sum(counts.get(outcome, 0) for counts in document["epochs"].values()))
    yield leases
    yield CounterMetricFamily("iota_leases_done", "Leases done since the start.", document["leases_done"])
    yield GaugeMetricFamily("iota_leases_open", "Leases in hand.", len(document["leases"]))
    time = GaugeMetricFamily("iota_time_ratio", "Parts of the time since the first epoch.", labels=["kind"])
    for kind in ("compute", "fetch", "idle"):
        time.add_metric([kind], document.get(f"{kind}_share", 0.0))
    yield time
    yield from traffic(sent, received)
    if not standing:
        return
    yield GaugeMetricFamily("iota_epoch", "The epoch that is under way, counted from 0.", standing["epoch"])
    yield GaugeMetricFamily("iota_score", "Its score, as the validator has told it.", standing["score"])
    yield GaugeMetricFamily("iota_score_ratio", "Its part of all scores.", standing["share"])
    yield GaugeMetricFamily("iota_rank", "Its rank among those with a score; 0: none.", standing["rank"])
    yield GaugeMetricFamily("iota_volume", "Work credited in this epoch, microbatches.", standing["volume"])
    yield GaugeMetricFamily("iota_faults", "Faults that count now.", len(standing["faults"]))
    told = document.get("standing_age_s")
    if told is not None:
        yield GaugeMetricFamily("iota_standing_age_seconds", "Age of the validator's last answer.", told)
