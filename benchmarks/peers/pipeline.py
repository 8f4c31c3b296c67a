"""One rank of torch.distributed.pipelining, or the whole model in one process, led by lines of JSON.

    python pipeline.py RANK SCHEDULE MODEL-JSON MICROBATCHES STORE-FILE     SCHEDULE: gpipe, 1f1b or single

{"do": "go", "steps": n}  n steps of so many microbatches of one sequence, AdamW after each; answers {"began", "ended"}
(monotonic) and "loss" on the last rank. The stages are the same modules as a miner's, on gloo, one torch thread.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.nn import functional as F

from iota_subnet.model.stage import Stage, init_stage
from iota_subnet.spec import ModelSpec

SCHEDULES: dict[str, Any] = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Rank:
    def __init__(self, rank: int, schedule: str, model: ModelSpec, microbatches: int, store: str) -> None:
        self.first, self.last = rank == 0, rank == model.stages - 1
        self.module = init_stage(Stage(model, rank), 0)
        self.optimiser = torch.optim.AdamW(self.module.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.model, self.microbatches = model, microbatches
        self.random = torch.Generator().manual_seed(0)
        self.schedule: Any = None
        if schedule in SCHEDULES:
            distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=model.stages)
            stage = PipelineStage(self.module, rank, model.stages, torch.device("cpu"))
            self.schedule = SCHEDULES[schedule](stage, microbatches, loss_fn=loss_of)

    def step(self) -> float:
        size = (self.microbatches, self.model.seq + 1)
        tokens = torch.randint(0, 256, size, generator=self.random)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].contiguous()
        losses: list[Tensor] = []
        if self.schedule is None:
            for x, y in zip(inputs.split(1), targets.split(1), strict=True):
                loss = loss_of(self.module(x), y)
                (loss / self.microbatches).backward()
                losses.append(loss.detach())
        elif self.first:
            self.schedule.step(inputs)
        elif self.last:
            self.schedule.step(target=targets, losses=losses)
        else:
            self.schedule.step()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(torch.stack(losses).mean()) if losses else 0.0


def main() -> None:
    rank, schedule, model, microbatches, store = sys.argv[1:]
    torch.set_num_threads(1)
    one = Rank(int(rank), schedule, ModelSpec(**json.loads(model)), int(microbatches), store)
    print("> {}", flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        loss = 0.0
        for _ in range(json.loads(line)["steps"]):
            loss = one.step()
        print("> " + json.dumps({"began": began, "ended": time.monotonic(), "loss": loss}), flush=True)


if __name__ == "__main__":
    main()
