"""The run in figures: what `--json` and summary.json hold, and what is printed at the end."""

from __future__ import annotations

from typing import Any

from iota_subnet.localnet import findings
from iota_subnet.localnet.observe import Picture


def summarise(
    picture: Picture,
    names: dict[str, str],
    killed: list[str],
    wall_s: float,
    train_s: float,
    kinds: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Figures by the names that the README explains. Raises nothing: what was not seen is null or empty.

    `kinds` says how each adversary cheats, by its name.
    """
    status = picture.status or {"reports": [], "tokens": 0, "microbatches": {"retired": 0, "lost": 0}, "phase": "none"}
    reports = status["reports"]
    evals = [status.get("first_eval"), *(report["eval_loss"] for report in reports)]
    seen = [value for value in evals if value is not None]
    view = picture.view
    incentive = {n.hotkey: n.incentive for n in view.neurons if n.hotkey in names} if view is not None else {}
    coverage = [share for report in reports for share in report["coverage"]]
    return {
        "complete": status["phase"] == "done",
        "eval_loss_first": seen[0] if seen else None,
        "eval_loss_last": seen[-1] if seen else None,
        "eval_losses": seen,
        "train_losses": [report["train_loss"] for report in reports],
        "tokens_trained": status["tokens"],
        "tokens_per_second": round(status["tokens"] / train_s, 1) if train_s > 0 else None,
        "epochs": sum(bool(report["coverage"]) for report in reports),
        "microbatches_retired": status["microbatches"]["retired"],
        "microbatches_lost": status["microbatches"]["lost"],
        "merge_coverage": coverage,
        "merge_included": [share for report in reports for share in report["included"]],
        "merge_contributors": [report["contributors"] for report in reports],
        "twins_compared": sum(report["twins_compared"] for report in reports),
        "twin_disagreements": sum(report["twin_disagreements"] for report in reports),
        "shards_recomputed": sum(report["recomputed"] for report in reports),
        "shards_audited": sum(report["audited"] for report in reports),
        "miners_audited": sum(report["audits"] for report in reports),
        "audits_failed": sum(report["audits_failed"] for report in reports),
        "replicas_identical": bool(reports) and all(report["replicas_identical"] for report in reports),
        "stages": {row["hotkey"]: row["stage"] for row in status.get("miners", [])},
        "names": names,
        "killed": [hotkey for hotkey, name in names.items() if name in killed],
        "faults": status.get("faults", []),
        "scores": status.get("scores", {}),
        "weights": {hotkey: picture.weights.get(hotkey, 0.0) for hotkey in names},
        "incentive": incentive,
        "wire_bytes_activations": status.get("wire_bytes_activations", 0),
        "wire_bytes_merge": status.get("wire_bytes_merge", 0),
        "train_seconds": round(train_s, 2),
        "wall_seconds": round(wall_s, 2),
    } | findings.figures(names, kinds or {}, picture.weights, killed, picture.findings)


def sentences(summary: dict[str, Any]) -> list[str]:
    """The summary for a person."""
    first, last = summary["eval_loss_first"], summary["eval_loss_last"]
    fall = f" ({100 * (1 - last / first):.0f} % lower)" if first and last else ""
    lines = [
        f"held-out loss      {_loss(first)} -> {_loss(last)} nats per token{fall}",
        f"trained            {summary['tokens_trained']:,} tokens in {summary['epochs']} epochs, "
        f"{summary['tokens_per_second'] or 0:,.0f} tokens/s",
        f"microbatches       {summary['microbatches_retired']} done, {summary['microbatches_lost']} lost",
        f"merges             {100 * min(summary['merge_coverage'], default=0):.0f} % of the parameters covered, "
        f"{summary['twins_compared']} twins compared, {summary['twin_disagreements']} disagreed, "
        f"replicas identical: {'yes' if summary['replicas_identical'] else 'NO'}",
        f"on the wire        activations {summary['wire_bytes_activations'] / 1e6:.1f} MB, "
        f"merges {summary['wire_bytes_merge'] / 1e6:.1f} MB",
        f"wall time          {summary['wall_seconds']:.0f} s, of them {summary['train_seconds']:.0f} s training",
    ]
    if summary.get("link"):
        lines.append(_link(summary["link"]))
    several = [one for one in summary.get("validators", {}).values() if one["vtrust"] is not None]
    lines += [f"{one['name']:<18} vtrust {one['vtrust']:.3f}" for one in several]
    compared = any(kind != "honest" for kind in summary["kinds"].values())
    for number, (hotkey, name) in enumerate(summary["names"].items()):
        weight, incentive = summary["weights"][hotkey], summary["incentive"].get(hotkey, 0.0)
        line = f"{name:<18} weight {weight:.3f}   incentive {incentive:.3f}"
        if name in summary.get("cpu_share", {}):
            line += f"   CPU {100 * summary['cpu_share'][name]:.0f} %"
        if name in summary.get("idle_share", {}):
            line += f"   idle {100 * summary['idle_share'][name]:.0f} %"
        if summary.get("link"):
            up, down = summary["link"]["up"][number], summary["link"]["down"][number]
            line += f"   sent {up['bytes'] / 1e6:.1f} MB, received {down['bytes'] / 1e6:.1f} MB"
        if compared:
            line += f"   {findings.words(summary, hotkey)}"
        lines.append(line + ("   (killed)" if hotkey in summary["killed"] else ""))
    return lines + findings.sentences(summary)


def agreement(picture: Picture, validators: dict[str, str]) -> dict[str, Any]:
    """By hotkey of each validator: its name, the weights that it has set, and its vtrust; null with one validator."""
    return {
        hotkey: {"name": name, "weights": picture.votes.get(hotkey, {}), "vtrust": picture.trust.get(hotkey)}
        for hotkey, name in validators.items()
    }


def _link(link: dict[str, Any]) -> str:
    """What the links did to the packets of all miners."""
    lanes = link["up"] + link["down"]
    packets, lost, dropped = (sum(lane[key] for lane in lanes) for key in ("packets", "lost", "dropped"))
    return (
        f"links              {link['link']} for each miner: {packets:,} packets, {lost:,} lost by chance, "
        f"{dropped:,} dropped by full queues; the relay took {link['cpu_seconds']:.0f} s of CPU"
    )


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
