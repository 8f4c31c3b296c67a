"""Speed of the embedded chain with a full subnet: 256 neurons, 16 validators that weigh everybody.

    python benchmarks/localnet.py --json [--runs 7] [--seconds 10]

Reads go through the SDK against a process of its own; each peer is the limit that we set ourselves, since no other
chain of this kind starts without Docker. Exit code 1 when one is missed. Prints a table, or JSON with --json: {"rows":
[{"name", "value", "unit", "peer", "peer_value", "ratio", "n", "min", "max"}]}, values are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from template.localnet import ChainConfig, LocalChain
from template.localnet.client import LocalClient, keypair, signed_extrinsic
from template.localnet.codec import Enum
from template.localnet.epoch import run_subnet_epoch
from template.localnet.registration import create_subnet, give_uid
from template.localnet.store import export_chain

ROOT = Path(__file__).resolve().parents[1]
NEURONS, VALIDATORS = 256, 16
Row = dict[str, Any]

RATE, BLOCK_S = 200, 0.25  # extrinsics per second, seconds per block


def populated() -> LocalChain:
    """A chain with one full subnet after two epochs."""
    chain = LocalChain(ChainConfig(tempo=360, max_validators=VALIDATORS))
    state, chance = chain.state, random.Random(7)
    alice = bytes(keypair("//Alice").public_key)
    hotkeys = [chance.randbytes(32) for _ in range(NEURONS)]
    subnet = create_subnet(state, alice, hotkeys[0], None)
    subnet.started_at = 0
    for hotkey in hotkeys[1:]:
        state.associate(hotkey, alice)
        give_uid(subnet, hotkey, 0)
    for uid in range(VALIDATORS):
        state.change_stake(hotkeys[uid], alice, subnet.netuid, chance.randrange(10**12, 10**14))
        subnet.weights[uid] = tuple((j, chance.randrange(1, 65536)) for j in range(NEURONS))
    for _ in range(3):
        state.block += 361
        subnet.last_update = [state.block] * NEURONS
        subnet.pending_emission = 361 * 820_004_577
        run_subnet_epoch(state, subnet)
    return chain


def times_ms(action: Callable[[], Any], runs: int, clock: Callable[[], float] = time.perf_counter) -> list[float]:
    times = []
    for _ in range(runs):
        begin = clock()
        action()
        times.append((clock() - begin) * 1000)
    return times


def epoch_ms(chain: LocalChain, runs: int) -> list[float]:
    def one() -> None:
        state = chain.state.clone()
        state.block += 361
        subnet = state.subnets[1]
        subnet.pending_emission = 361 * 820_004_577
        run_subnet_epoch(state, subnet)

    return times_ms(one, runs, time.process_time)


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def sustained(endpoint: str, seconds: float) -> list[Row]:
    """Send RATE transfers a second, signed beforehand by six accounts, and count blocks and inclusions."""
    senders = [keypair(f"//{name}") for name in ("Alice", "Bob", "Charlie", "Dave", "Eve", "Ferdie")]
    dest = {"dest": Enum("Id", b"d" * 32), "value": 1_000_000}
    with LocalClient(endpoint) as client:
        genesis = bytes.fromhex(client.ask("chain_getBlockHash", 0)[2:])
        count = int(RATE * seconds)
        raws = [
            signed_extrinsic(senders[i % 6], "Balances", "transfer_allow_death", dest, i // 6, genesis)
            for i in range(count)
        ]
        first, begin = client.head(), time.perf_counter()
        for i, raw in enumerate(raws):
            ahead = begin + i / RATE - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            client.ask("author_submitExtrinsic", "0x" + raw.hex())
        sent = time.perf_counter() - begin
        blocks, made = client.head() - first, time.perf_counter() - begin
        while client.free_balance(b"d" * 32) < count * 1_000_000 and time.perf_counter() - begin < 10 * seconds:
            time.sleep(BLOCK_S)
        done = client.free_balance(b"d" * 32) // 1_000_000
    return [
        row("signed extrinsics sent", "1/s", [count / sent], 0.95 * RATE, least=True),
        row("of them included", "share", [done / count], 1.0, least=True),
        row("blocks missed", "blocks", [max(int(made / BLOCK_S) - blocks, 0)], 0.0),
    ]


def measure(runs: int, seconds: float) -> list[Row]:
    chain = populated()
    rows = [row("epoch, processor time", "ms", epoch_ms(chain, runs), 150.0)]
    with tempfile.TemporaryDirectory() as folder:
        snapshot = Path(folder) / "snapshot"
        export_chain(chain, snapshot)
        command = [sys.executable, "-m", "template.localnet", "--port", "0", "--block-time", str(BLOCK_S)]
        process = subprocess.Popen([*command, "--import", str(snapshot)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().split()[3]
            rows += reads(endpoint, runs)
            rows += sustained(endpoint, seconds)
            rows.append(row("memory of the chain's process", "MB", [rss_mb(process.pid)], 150.0))
        finally:
            process.kill()
            process.wait()
    return rows


def reads(endpoint: str, runs: int) -> list[Row]:
    import bittensor as bt

    def connect() -> None:
        bt.Subtensor(network=endpoint).close()

    connect()  # imports and caches of the process are not the chain's
    rows = [row("connect through the SDK", "ms", times_ms(connect, runs), 600.0)]
    with bt.Subtensor(network=endpoint) as subtensor:
        assert len(subtensor.metagraph(1, lite=True).hotkeys) == NEURONS
        metagraph = times_ms(lambda: subtensor.metagraph(1, lite=True), runs)
        neurons = times_ms(lambda: subtensor.neurons_lite(1), runs)
    rows.append(row("metagraph(lite=True) through the SDK", "ms", metagraph, 300.0))
    rows.append(row("neurons_lite through the SDK", "ms", neurons, 300.0))
    return rows


def row(name: str, unit: str, values: list[float], limit: float, least: bool = False) -> Row:
    value = statistics.median(values)
    return {
        "name": name, "value": round(value, 2), "unit": unit, "peer": "limit, at least" if least else "limit, at most",
        "peer_value": limit, "ratio": round(value / limit, 3) if limit else None, "n": len(values),
        "min": round(min(values), 2), "max": round(max(values), 2),
        "met": value >= limit if least else value <= limit,
    }  # fmt: skip


def main() -> int:
    """Exit code 0 when every target is met, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10.0, help="of sustained load")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = measure(options.runs, options.seconds)
    if options.json:
        print(json.dumps({"rows": rows}, indent=1))
    else:
        for one in rows:
            print(f"{one['name']:40} {one['value']:>8} {one['unit']:6} ({one['peer']} {one['peer_value']:g})")
    return 0 if all(one["met"] for one in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
