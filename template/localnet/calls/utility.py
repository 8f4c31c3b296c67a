"""System, Timestamp, Utility and Sudo calls."""

from __future__ import annotations

from typing import Any

from template.localnet.codec import Enum
from template.localnet.dispatch import Context, encode_failure, handles, run_call
from template.localnet.errors import DispatchFailure

MAX_BATCH = 1000


@handles("System.remark")
def remark(context: Context, args: dict[str, Any]) -> None:
    """Does nothing but to be signed and paid for."""
    context.signed()


@handles("Timestamp.set")
def set_timestamp(context: Context, args: dict[str, Any]) -> None:
    """The block's time, Unix milliseconds; an inherent, nobody may sign it."""
    if context.signer is not None or context.is_root:
        raise DispatchFailure("BadOrigin")
    context.state.now_ms = args["now"]


def _checked(calls: list[Enum]) -> list[Enum]:
    if len(calls) > MAX_BATCH:
        raise DispatchFailure("Module", "Utility.TooManyCalls")
    return calls


@handles("Utility.batch_all")
def batch_all(context: Context, args: dict[str, Any]) -> None:
    """All these calls, or none of them."""
    for call in _checked(args["calls"]):
        run_call(context, call)
        context.emit("Utility", "ItemCompleted")
    context.emit("Utility", "BatchCompleted")


@handles("Utility.batch")
def batch(context: Context, args: dict[str, Any]) -> None:
    """Stops at the first failed call and keeps what was done before it."""
    for index, call in enumerate(_checked(args["calls"])):
        before, mark = context.state.clone(), len(context.state.events)
        try:
            run_call(context, call)
        except DispatchFailure as failure:
            _restore(context, before, mark)
            context.emit("Utility", "BatchInterrupted", {"index": index, "error": encode_failure(failure)})
            return
        context.emit("Utility", "ItemCompleted")
    context.emit("Utility", "BatchCompleted")


def _restore(context: Context, before: Any, mark: int) -> None:
    """Put the state back as it was; in place, since callers hold the object."""
    events = context.state.events[:mark]
    context.state.__dict__.update(before.__dict__)
    context.state.events = events


@handles("Sudo.sudo")
def sudo(context: Context, args: dict[str, Any]) -> None:
    """The holder of the sudo key makes a call as root; the event says whether it did."""
    if context.signed() != context.state.sudo_key:
        raise DispatchFailure("Module", "Sudo.RequireSudo")
    before, mark = context.state.clone(), len(context.state.events)
    try:
        run_call(Context(context.state, context.signer, context.index, is_root=True), args["call"])
        result = Enum("Ok")
    except DispatchFailure as failure:
        _restore(context, before, mark)
        result = Enum("Err", encode_failure(failure))
    context.emit("Sudo", "Sudid", {"sudo_result": result})
