"""Where a miner's time goes: every second counted once, and hidden fetches not at all."""

from __future__ import annotations

import asyncio
import threading

from iota_subnet.messages import Lease
from iota_subnet.miner.meter import Meter
from tests.validator.kit import eventually

from .kit import bench, tokens


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def metered() -> tuple[Meter, Clock]:
    clock = Clock()
    return Meter(clock), clock


def test_fetching_counts_only_while_nothing_computes() -> None:
    meter, clock = metered()
    meter.turn(0, "train")
    with meter.fetching():
        clock.now += 1
        with meter.computing(), meter.fetching():
            clock.now += 6
        clock.now += 1
    clock.now += 2
    assert meter.read()["so_far"] == {
        "compute_share": 0.6, "fetch_share": 0.2, "idle_share": 0.2, "seconds": 10.0
    }  # fmt: skip


def test_nothing_counts_before_the_run_begins_and_after_it_is_over() -> None:
    meter, clock = metered()
    clock.now += 50
    meter.turn(0, "wait")
    clock.now += 50
    meter.turn(0, "train")
    clock.now += 4
    meter.turn(0, "done")
    clock.now += 50
    assert meter.read()["so_far"]["seconds"] == 4.0


def test_epochs_are_kept_apart_and_training_apart_from_the_merge() -> None:
    meter, clock = metered()
    for epoch, busy in enumerate((8, 2)):
        meter.turn(epoch, "train")
        with meter.computing():
            clock.now += busy
        meter.turn(epoch, "reduce")
        clock.now += 10 - busy
    read = meter.read()
    assert (read["last"]["compute_share"], read["epoch"]["compute_share"]) == (0.8, 0.2)
    assert (read["so_far"]["idle_share"], read["train"]["idle_share"]) == (0.5, 0.0)
    assert (read["so_far"]["seconds"], read["train"]["seconds"]) == (20.0, 10.0)
    assert (read["merge 0"]["seconds"], read["merge 1"]["seconds"]) == (2.0, 8.0)


def test_work_that_goes_on_in_a_merge_is_no_idleness() -> None:
    meter, clock = metered()
    meter.turn(0, "commit")
    with meter.computing():
        clock.now += 3
    meter.turn(0, "install")
    clock.now += 1
    assert meter.read()["merge 0"]["idle_share"] == 0.25


def test_what_fails_does_not_count_for_ever() -> None:
    meter, clock = metered()
    meter.turn(0, "train")
    try:
        with meter.computing(), meter.fetching():
            raise ValueError
    except ValueError:
        clock.now += 5
    assert meter.read()["so_far"]["idle_share"] == 1.0


async def test_the_next_leases_inputs_are_fetched_while_the_present_one_computes() -> None:
    async with bench() as b:
        await b.hold()
        go, begun = threading.Event(), threading.Event()
        really = b.runner.forward

        def held(*args: object) -> bytes:
            begun.set()
            go.wait(10)
            return really(*args)  # type: ignore[arg-type]

        b.runner.forward = held  # type: ignore[method-assign]
        b.worker.give(Lease(1, "forward", 1, 0, 0, (b.blob(tokens(1)),), 30.0))
        await eventually(begun.is_set)
        second = b.blob(tokens(2))
        fetched = b.fetcher.bytes_in.total
        b.worker.give(Lease(2, "forward", 2, 0, 0, (second,), 30.0))
        try:
            await eventually(lambda: b.fetcher.bytes_in.total == fetched + second.nbytes)
            assert b.sent == []
        finally:
            go.set()
        await eventually(lambda: len(b.sent) == 2)
        await asyncio.sleep(0)
