"""The metrics of a run, as its validator knows it: a pure function of the state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from iota_subnet.core.state import Phase, RunState
from iota_subnet.dashboard.hub import Hub
from iota_subnet.dashboard.rows import doing, names
from iota_subnet.dashboard.view import progress
from iota_subnet.metrics.traffic import traffic
from template.chain import MetagraphView

#: Hotkeys with series of their own; those with a seat come first.
MINERS = 1024


def run_metrics(state: RunState, chain: MetagraphView | None, now: float) -> Iterator[Metric]:
    """All of a run. `now` is by the validator's clock, seconds."""
    spec = state.spec
    info = {"run": spec.name, "spec": spec.digest(), "preset": spec.model.preset, "stages": str(spec.model.stages)}
    yield InfoMetricFamily("iota_run", "What is trained.", info)
    phase = GaugeMetricFamily("iota_phase", "1 for the phase in which the run is.", labels=["phase"])
    for known in Phase:
        phase.add_metric([known.value], float(known is state.phase))
    yield phase
    yield _gauge("iota_epoch", "The epoch that is under way, counted from 0.", state.epoch)
    yield _gauge("iota_phase_progress_ratio", "How much of the present phase is done.", progress(state))
    left = max(0.0, state.deadline - now)
    yield _gauge("iota_phase_deadline_seconds", "Seconds until the phase ends whatever is missing.", left)
    yield from _work(state)
    yield from _losses(state)
    yield from _merges(state)
    yield from _miners(state)
    if chain is not None:
        yield _gauge("iota_chain_block", "Block at which the metagraph was last read.", chain.block)


def _work(state: RunState) -> Iterator[Metric]:
    retired = sum(report.microbatches for report in state.reports) + state.early
    tokens = state.spec.train.microbatch * state.spec.model.seq
    yield _counter("iota_microbatches_opened", "Microbatches that were begun.", state.opened_total)
    yield _counter("iota_microbatches_retired", "Microbatches that were finished and credited.", retired)
    yield _counter("iota_microbatches_lost", "Microbatches that came to nothing.", state.lost)
    yield _gauge("iota_microbatches_in_flight", "Microbatches on their way now.", len(state.batches))
    yield _gauge("iota_microbatch_age_seconds", "Seconds from opening to retirement, smoothed.", state.age)
    yield _counter("iota_tokens_trained", "Tokens of retired microbatches.", retired * tokens)
    yield _counter("iota_activation_bytes", "Bytes of activations and gradients sent.", state.bytes_activations)
    yield _counter("iota_merge_bytes", "Bytes fetched to install merged states.", state.bytes_merge)
    leases = GaugeMetricFamily("iota_leases_open", "Units of work given out and not answered.", labels=["stage", "op"])
    for (stage, op), count in sorted(Counter((lease.stage, lease.op) for lease in state.leases.values()).items()):
        leases.add_metric([str(stage), op], count)
    yield leases


def _losses(state: RunState) -> Iterator[Metric]:
    loss = GaugeMetricFamily("iota_loss_nats", "Newest loss, nats per token.", labels=["kind"])
    trained = next((r.train_loss for r in reversed(state.reports) if r.train_loss is not None), None)
    held_out = next((r.eval_loss for r in reversed(state.reports) if r.eval_loss is not None), state.first_eval_loss)
    newest = [sample.loss for sample in state.samples[-32:]]
    for kind, value in (
        ("train", sum(newest) / len(newest) if newest else None),
        ("train_epoch", trained),
        ("held_out", held_out),
    ):
        if value is not None:
            loss.add_metric([kind], value)
    yield loss


def _merges(state: RunState) -> Iterator[Metric]:
    reports = state.reports
    closed = [report for report in reports if report.ended_at]
    yield _counter("iota_epochs_closed", "Epochs that were trained, merged and installed.", len(closed))
    covered = min(closed[-1].coverage, default=1.0) if closed else 1.0
    yield _gauge("iota_merge_coverage_ratio", "Parameters averaged in the last merge, the poorest stage's.", covered)
    for name, text, value in (
        ("iota_twins_compared", "Shards that two reducers have reduced.", sum(r.twins_compared for r in reports)),
        ("iota_twins_disagreed", "Such shards whose digests differed.", sum(r.twin_disagreements for r in reports)),
        ("iota_shards_recomputed", "Shards that the validator had to reduce.", sum(r.recomputed for r in reports)),
        ("iota_audits", "Epochs of miners computed again.", sum(r.audits for r in reports)),
        ("iota_audits_failed", "Of these, those that found fault.", sum(r.audits_failed for r in reports)),
    ):
        yield _counter(name, text, value)
    written = [report.epoch for report in reports if report.weights_set]
    yield _gauge(
        "iota_weights_set_epoch", "Newest epoch whose scores are on chain; -1: none.", max(written, default=-1)
    )


def _miners(state: RunState) -> Iterator[Metric]:
    everybody = names(state)
    shown = {hotkey: doing(state, hotkey) for hotkey in everybody}
    counts = Counter((one.stage, one.health) for one in shown.values())
    seats = GaugeMetricFamily(
        "iota_miners", "Miners by stage (-1: no seat) and by what they do.", labels=["stage", "health"]
    )
    for (stage, health), count in sorted(counts.items()):
        seats.add_metric([str(stage), health], count)
    yield seats
    yield _gauge("iota_miners_ready", "Miners that may be given work.", state.index.ready)
    yield _gauge("iota_stages_empty", "Stages in which nobody can work.", len(state.index.empty))
    passes = GaugeMetricFamily("iota_miner_passes", "Passes since it took its seat.", labels=["hotkey", "stage"])
    volume = GaugeMetricFamily("iota_miner_volume", "Work credited in this epoch, microbatches.", labels=["hotkey"])
    score = GaugeMetricFamily("iota_miner_score", "Score when an epoch was last closed.", labels=["hotkey"])
    scores = next((report.scores for report in reversed(state.reports) if report.scores), {})
    for hotkey in everybody[:MINERS]:
        passes.add_metric([hotkey, str(shown[hotkey].stage)], shown[hotkey].done)
        volume.add_metric([hotkey], shown[hotkey].volume)
        score.add_metric([hotkey], scores.get(hotkey, 0.0))
    yield from (passes, volume, score)


def served_metrics(sent: Mapping[str, int], received: Mapping[str, int], events: int, hub: Hub) -> Iterator[Metric]:
    """What the validator's own process has done. `sent` and `received` are bytes by kind of blob."""
    yield from traffic(sent, received)
    yield _counter("iota_ledger_events", "Events in the ledger.", events)
    yield _gauge("iota_dashboard_watchers", "Browsers that follow the page.", hub.watchers)
    yield _counter("iota_dashboard_look_seconds", "Processor time spent on telling them what is new.", hub.spent_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)
