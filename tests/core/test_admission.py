from iota_subnet.core.actions import Refuse
from iota_subnet.core.events import LeaseFailed, MinerJoined, MinerLeft, ValidatorRestarted
from iota_subnet.core.state import RunState
from iota_subnet.core.trust import READERS, TIMES, complain, judge, praise

from .bench import Bench


def ask(bench: Bench, hotkey: str) -> str:
    bench.send(MinerJoined(at=bench.now, hotkey=hotkey, boot="0"))
    return "".join(action.reason for action in bench.got(Refuse, hotkey))


def full() -> Bench:
    return Bench(stages=1, seats=2, max_miners=2, wait_s=30.0)


def test_who_asks_first_is_first_in_line_and_is_told_so() -> None:
    bench = full()
    for number, hotkey in enumerate(("a", "b", "c"), 1):
        assert f"number {number} in the line" in ask(bench, hotkey)
    assert "number 2 in the line" in ask(bench, "b"), "asking again changes nothing"


def test_a_freed_seat_is_for_the_first_in_line_when_it_asks_again() -> None:
    bench = full()
    ask(bench, "a"), ask(bench, "b")
    bench.send(MinerLeft(at=bench.now, hotkey="m0"))
    assert "number 2 in the line" in ask(bench, "b") and "b" not in bench.state.miners
    assert "number 3 in the line" in ask(bench, "late")
    assert ask(bench, "a") == "" and "a" in bench.state.miners
    assert "number 1 in the line" in ask(bench, "b")


def test_a_place_is_kept_over_a_restart_and_not_for_who_does_not_come_back() -> None:
    bench = full()
    ask(bench, "a"), ask(bench, "b")
    bench.wait(20.0)
    bench.send(ValidatorRestarted(at=bench.now))
    for hotkey in ("m0", "m1"):
        bench.connect(hotkey)
    assert "number 2" in ask(bench, "b")
    bench.wait(15.0)
    assert list(bench.state.line) == ["b"]
    bench.send(MinerLeft(at=bench.now, hotkey="m0"))
    assert ask(bench, "b") == ""


def test_somebody_with_a_seat_does_not_wait_in_line() -> None:
    bench = full()
    ask(bench, "a")
    bench.disconnect("m0")
    assert ask(bench, "m0") == ""


def test_the_line_is_bounded() -> None:
    bench = full()
    for number in range(32):
        ask(bench, f"x{number}")
    assert "the waiting list is full" in ask(bench, "one more") and len(bench.state.line) == 32


def swarm(stages: int = 1, seats: int = 5) -> tuple[Bench, RunState]:
    bench = Bench(stages=stages, seats=seats, ban_s=60.0)
    return bench, bench.state


def test_one_readers_word_bans_nobody() -> None:
    _, state = swarm()
    for _ in range(100):
        complain(state, "m1", "m0")
    assert not judge(state)


def test_several_readers_ban_a_peer_for_a_time_and_it_is_told_why() -> None:
    bench, state = swarm()
    for number in range(TIMES):
        complain(state, f"m{1 + number % READERS}", "m0")
    bench.wait(1.0)
    assert "m0" not in state.miners
    assert "banned for 60 s" in bench.got(Refuse, "m0")[0].reason and "blob port" in bench.got(Refuse, "m0")[0].reason
    assert "banned for another 60 s" in ask(bench, "m0") and "m0" not in state.line
    bench.wait(60.0)
    assert ask(bench, "m0") == "" and "m0" in state.miners


def test_the_victim_of_a_partition_is_not_banned() -> None:
    # Three cannot reach it, three can: it is the network.
    _, state = swarm(seats=7)
    for number in range(2 * TIMES):
        complain(state, f"m{1 + number % 3}", "m0")
        praise(state, f"m{4 + number % 3}", "m0")
        if number >= TIMES - 2:
            break
    complain(state, "m1", "m0")
    complain(state, "m2", "m0")
    assert not judge(state)


def test_complaints_grow_old() -> None:
    bench, state = swarm()
    for number in range(TIMES - 1):
        complain(state, f"m{1 + number % READERS}", "m0")
    bench.wait(61.0)
    complain(state, "m1", "m0")
    assert not judge(state) and "m0" in state.miners


def test_the_last_replica_of_a_stage_is_not_banned() -> None:
    _, state = swarm(stages=2, seats=1)
    for number in range(TIMES):
        complain(state, f"r{number % READERS}", "m0")
    assert not judge(state) and not state.banned


def test_a_missing_output_is_a_complaint_about_its_maker() -> None:
    bench = Bench(stages=2, seats=4, live_per_replica=4, epoch_batches=100, hedge=100.0)
    broken = bench.state.members(0)[0].hotkey
    for _ in range(200):
        if broken not in bench.state.miners:
            break
        bench.publish()
        for lease in bench.given():
            made = bench.state.batches[lease.batch].forward[0]
            if lease.lease not in bench.state.leases:
                continue
            if lease.op == "loss" and made is not None and made.hotkey == broken:
                bad = lease.inputs[0].digest
                bench.send(
                    LeaseFailed(
                        at=bench.now, hotkey=lease.hotkey, lease=lease.lease, kind="input", digest=bad, reason="404"
                    )
                )
            else:
                bench.finish(lease)
        bench.wait(1.0)
    assert broken in bench.state.banned and len(bench.state.banned) == 1 and bench.state.lost == 0
