"""One peer of hivemind's DecentralizedAverager, led by lines of JSON on standard input; needs hivemind alone.

    python hivemind_averager.py INDEX PEERS VALUES CODEC

{"do": "dht", "peers": [addresses]}  start the DHT; answers {"addresses": [...]}
{"do": "averager", "group": name}    start the averager
{"do": "match"}                      fill the vector, find the group; answers when all-reduce may begin
{"do": "go"}                         all-reduce in the group that was found; answers began, ended (monotonic), ok
{"do": "step"}                       the same with matchmaking, in one call
{"do": "judge"}                      compare with the mean of all: answers error, off, unaveraged, digest
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import torch
from hivemind import DHT, DecentralizedAverager
from hivemind.averaging.control import AveragingStage
from hivemind.compression import Float16Compression, NoCompression

SEED = 20


def vector(size: int, peer: int, turn: int) -> Any:
    return np.random.default_rng([SEED, peer, turn]).standard_normal(size, np.float32)


class Peer:
    def __init__(self, index: int, peers: int, size: int, codec: str) -> None:
        self.index, self.peers, self.size = index, peers, size
        self.codec = Float16Compression() if codec == "fp16" else NoCompression()
        self.turn = 0
        self.averager: Any = None
        self.control: Any = None

    def dht(self, peers: list[str]) -> dict[str, Any]:
        self._dht = DHT(
            initial_peers=peers, host_maddrs=["/ip4/127.0.0.1/tcp/0"], start=True,
            use_relay=False, auto_nat=False, nat_port_map=False,
        )  # fmt: skip
        return {"addresses": [str(address) for address in self._dht.get_visible_maddrs()]}

    def start(self, group: str) -> dict[str, Any]:
        self.averager = DecentralizedAverager(
            [torch.zeros(self.size)], self._dht, start=True, prefix=group, target_group_size=self.peers,
            min_group_size=self.peers, min_matchmaking_time=1.0, request_timeout=1.0, compression=self.codec,
            sender_timeout=2.0, reducer_timeout=4.0, allow_state_sharing=False,
        )  # fmt: skip
        return {}

    def _fill(self) -> None:
        self.turn += 1
        with self.averager.get_tensors() as tensors:
            tensors[0].numpy()[:] = vector(self.size, self.index, self.turn)

    def match(self) -> dict[str, Any]:
        self._fill()
        self.control = self.averager.step(wait=False, require_trigger=True, timeout=20.0, allow_retries=False)
        while self.control.stage is not AveragingStage.AWAITING_TRIGGER and not self.control.done():
            time.sleep(0.005)
        return {"ok": not self.control.done()}

    def go(self) -> dict[str, Any]:
        began = time.monotonic()
        self.control.allow_allreduce()
        return self._ended(began, lambda: self.control.result(60.0))

    def step(self) -> dict[str, Any]:
        self._fill()
        began = time.monotonic()
        return self._ended(began, lambda: self.averager.step(timeout=60.0, allow_retries=False))

    def _ended(self, began: float, result: Any) -> dict[str, Any]:
        try:
            group, why = result(), ""
        except Exception as error:
            group, why = None, f"{type(error).__name__}: {error}"
        return {"began": began, "ended": time.monotonic(), "ok": bool(group), "why": why}

    def judge(self) -> dict[str, Any]:
        """`off`: values that are not the mean of all peers; `unaveraged`: values that are still this peer's own."""
        with self.averager.get_tensors() as tensors:
            found = tensors[0].numpy().copy()
        own = vector(self.size, self.index, self.turn)
        mean = np.zeros(self.size)
        for peer in range(self.peers):
            mean += vector(self.size, peer, self.turn)
        mean /= self.peers
        wrong = np.abs(found - mean)
        slack = 1e-3 if isinstance(self.codec, NoCompression) else 1e-2
        return {
            "error": float(np.sqrt(np.mean(wrong**2) / np.mean(mean**2))),
            "off": float((wrong > slack).mean()),
            "unaveraged": float((found == own).mean()),
            "digest": hashlib.blake2b(found.tobytes(), digest_size=16).hexdigest(),
        }


def main() -> None:
    peer = Peer(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    torch.set_num_threads(1)
    for line in sys.stdin:
        word = json.loads(line)
        acts = {
            "dht": lambda word=word: peer.dht(word["peers"]),
            "averager": lambda word=word: peer.start(word["group"]),
            "match": peer.match, "go": peer.go, "step": peer.step, "judge": peer.judge,
        }  # fmt: skip
        print("> " + json.dumps(acts[word["do"]]()), flush=True)
    if peer.averager is not None:
        peer.averager.shutdown()
        peer._dht.shutdown()


if __name__ == "__main__":
    main()
