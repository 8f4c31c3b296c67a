"""hivemind's remote experts as a pipeline: a trainer with embedding and LM head, a server for each stage's blocks.

    python hivemind_experts.py INDEX MODEL-JSON MICROBATCHES HOST     INDEX: 0.. for servers, -1 for the trainer

{"do": "serve", "peers": [addresses]}  start DHT and server; answers {"addresses": [...]}
{"do": "join", "peers": [addresses]}   the trainer looks the experts up
{"do": "go", "steps": n}               n steps of so many microbatches, all on their way at once; answers {"began",
                                       "ended"} (monotonic) and "loss"

A server steps its optimiser after as many backward passes as the trainer makes in a step. Needs hivemind and torch.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from hivemind import DHT
from hivemind.moe.client.expert import create_remote_experts
from hivemind.moe.server.dht_handler import get_experts
from hivemind.moe.server.module_backend import ModuleBackend
from hivemind.moe.server.server import Server
from hivemind.utils.tensor_descr import BatchTensorDescriptor
from torch import Tensor, nn
from torch.nn import functional as F

from iota_subnet.model.blocks import Block, Embedding, Linear, RMSNorm, rotary_tables
from iota_subnet.spec import ModelSpec

#: Seconds in which the trainer must find all experts.
FIND_S = 60.0


class Seldom(torch.optim.AdamW):
    """Steps at every n-th call, with the mean of the gradients since."""

    def __init__(self, parameters: Any, every: int) -> None:
        super().__init__(parameters, lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.every, self.calls = every, 0

    def step(self, closure: Any = None) -> None:
        self.calls += 1
        if self.calls % self.every == 0:
            super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.calls % self.every == 0:
            super().zero_grad(set_to_none)


class Blocks(nn.Module):
    def __init__(self, model: ModelSpec, stage: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(model) for _ in model.blocks_of(stage))
        self.cos, self.sin = rotary_tables(model, model.seq)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return x


def drawn(module: nn.Module, seed: int) -> nn.Module:
    random = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        if p.dim() > 1:
            nn.init.normal_(p, std=0.02, generator=random)
    return module


class Peer:
    def __init__(self, index: int, model: ModelSpec, microbatches: int, host: str) -> None:
        self.index, self.model, self.microbatches, self.host = index, model, microbatches, host
        self.random = torch.Generator().manual_seed(0)

    def _dht(self, peers: list[str]) -> DHT:
        return DHT(
            initial_peers=peers, host_maddrs=[f"/ip4/{self.host}/tcp/0"], start=True,
            use_relay=False, auto_nat=False, nat_port_map=False,
        )  # fmt: skip

    def serve(self, peers: list[str]) -> dict[str, Any]:
        self.dht = self._dht(peers)
        module = drawn(Blocks(self.model, self.index), self.index)
        shape = BatchTensorDescriptor(self.model.seq, self.model.dim)
        backend = ModuleBackend(
            name=f"stage.{self.index}", module=module, optimizer=Seldom(module.parameters(), self.microbatches),
            args_schema=(shape,), outputs_schema=shape, max_batch_size=self.microbatches,
        )  # fmt: skip
        self.server = Server(self.dht, {backend.name: backend}, num_connection_handlers=1, start=True)
        return {"addresses": [str(address) for address in self.dht.get_visible_maddrs()]}

    def join(self, peers: list[str]) -> dict[str, Any]:
        self.dht = self._dht(peers)
        names, deadline = [f"stage.{stage}" for stage in range(self.model.stages)], time.monotonic() + FIND_S
        found: list[Any] = []
        while time.monotonic() < deadline and (not found or None in found):
            found = list(get_experts(self.dht, names))
            time.sleep(0.5)
        self.experts = create_remote_experts(found, self.dht)
        self.embed = drawn(Embedding(self.model.vocab, self.model.dim), 10)
        head = nn.Sequential(RMSNorm(self.model.dim, self.model.norm_eps), Linear(self.model.dim, self.model.vocab))
        self.head = drawn(head, 11)
        both = [*self.embed.parameters(), *self.head.parameters()]
        self.optimiser = torch.optim.AdamW(both, lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.pool = ThreadPoolExecutor(self.microbatches, initializer=lambda: torch.set_num_threads(1))
        return {}

    def _one(self, tokens: Tensor) -> float:
        x = self.embed(tokens[:, :-1])
        for expert in self.experts:
            x = expert(x)
        loss = F.cross_entropy(self.head(x).flatten(0, 1), tokens[:, 1:].flatten())
        (loss / self.microbatches).backward()
        return float(loss)

    def go(self, steps: int) -> dict[str, Any]:
        began, loss = time.monotonic(), 0.0
        for _ in range(steps):
            size = (self.microbatches, self.model.seq + 1)
            tokens = torch.randint(0, 256, size, generator=self.random)
            loss = sum(self.pool.map(self._one, tokens.split(1))) / self.microbatches
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        return {"began": began, "ended": time.monotonic(), "loss": loss}


def main() -> None:
    index, model, microbatches, host = sys.argv[1:]
    torch.set_num_threads(1)
    peer = Peer(int(index), ModelSpec(**json.loads(model)), int(microbatches), host)
    for line in sys.stdin:
        word = json.loads(line)
        print("> " + json.dumps(getattr(peer, word.pop("do"))(**word)), flush=True)
    if peer.index >= 0:
        peer.server.shutdown()
    peer.dht.shutdown()


if __name__ == "__main__":
    main()
