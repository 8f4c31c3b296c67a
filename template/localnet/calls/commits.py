"""SubtensorModule: weights committed by hash and revealed, and what does several of them at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from template.localnet.calls.weights import existing_subnet, set_plain_weights
from template.localnet.dispatch import Context, encode_failure, handles
from template.localnet.errors import DispatchFailure, module_error
from template.localnet.hash_commits import Reveal, commit_hash, reveal_hash


@handles("SubtensorModule.commit_weights")
@handles("SubtensorModule.commit_mechanism_weights")
def commit_weights(context: Context, args: dict[str, Any]) -> None:
    """Commit to the hash of weights that are revealed later."""
    hotkey, digest = context.signed(), args["commit_hash"]
    subnet = existing_subnet(context.state, args)
    commit_hash(context.state, subnet, hotkey, digest)
    context.emit("SubtensorModule", "WeightsCommitted", (hotkey, subnet.netuid, digest))


@handles("SubtensorModule.reveal_weights")
@handles("SubtensorModule.reveal_mechanism_weights")
def reveal_weights(context: Context, args: dict[str, Any]) -> None:
    """Show the weights of an earlier commit; they must have its hash, and its epoch must be the right one."""
    hotkey = context.signed()
    subnet = existing_subnet(context.state, args)
    reveal = Reveal(args["uids"], args["values"], args["salt"], args["version_key"])
    digest = reveal_hash(context.state, subnet, hotkey, reveal)
    context.emit("SubtensorModule", "WeightsRevealed", (hotkey, subnet.netuid, digest))


@handles("SubtensorModule.batch_reveal_weights")
def batch_reveal_weights(context: Context, args: dict[str, Any]) -> None:
    """All of them or none."""
    hotkey = context.signed()
    subnet = existing_subnet(context.state, args)
    columns = [args[name] for name in ("uids_list", "values_list", "salts_list", "version_keys")]
    if len({len(column) for column in columns}) > 1:
        raise module_error("InputLengthsUnequal")
    reveals = [Reveal(*parts) for parts in zip(*columns, strict=True)]
    digests = [reveal_hash(context.state, subnet, hotkey, reveal) for reveal in reveals]
    context.emit("SubtensorModule", "WeightsBatchRevealed", (hotkey, subnet.netuid, digests))


def _each(context: Context, netuids: list[int], act: Callable[[int], None]) -> None:
    """Do what can be done and say what failed; every single call checks before it changes anything."""
    failed = False
    for place, netuid in enumerate(netuids):
        try:
            act(place)
        except DispatchFailure as failure:
            failed = True
            context.emit("SubtensorModule", "BatchWeightItemFailed", (netuid, encode_failure(failure)))
    if failed:
        context.emit("SubtensorModule", "BatchCompletedWithErrors")
    context.emit("SubtensorModule", "BatchWeightsCompleted", (netuids, context.signed()))


@handles("SubtensorModule.batch_commit_weights")
def batch_commit_weights(context: Context, args: dict[str, Any]) -> None:
    """Commit for several subnets; one that fails is told of in an event, the others stand."""
    netuids, hashes = args["netuids"], args["commit_hashes"]
    if len(netuids) != len(hashes):
        raise module_error("InputLengthsUnequal")
    _each(context, netuids, lambda i: commit_weights(context, {"netuid": netuids[i], "commit_hash": hashes[i]}))


@handles("SubtensorModule.batch_set_weights")
def batch_set_weights(context: Context, args: dict[str, Any]) -> None:
    """Set weights of several subnets; one that fails is told of in an event, the others stand."""
    netuids, rows, keys = args["netuids"], args["weights"], args["version_keys"]
    if not len(netuids) == len(rows) == len(keys):
        raise module_error("InputLengthsUnequal")

    def act(i: int) -> None:
        dests, weights = [dest for dest, _ in rows[i]], [weight for _, weight in rows[i]]
        one = {"netuid": netuids[i], "dests": dests, "weights": weights, "version_key": keys[i]}
        set_plain_weights(context, one)

    _each(context, netuids, act)
