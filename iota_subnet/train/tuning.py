"""How one miner computes its stage: choices that change time, memory and the last bits, and no specification.

Law: with any of them a pass is the same function, within the rounding that audits allow; without `bf16` and `compile`
it gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tuning:
    """`recompute` keeps only what enters each block, and computes its inside again for the backward pass: a third more
    arithmetic, a fraction of the memory. `compile` hands the stage to torch.compile. `bf16` multiplies matrices in
    bfloat16; None: on whatever is no CPU. `devices`, if any, hold the stage together (`sharded`)."""

    recompute: bool = False
    compile: bool = False
    bf16: bool | None = None
    devices: tuple[str, ...] = ()

    def problem(self, device: str) -> str:
        """Why this cannot be done on the torch device `device`, or nothing."""
        if self.devices:
            kinds = {name.split(":")[0] for name in self.devices}
            if len(self.devices) < 2 or not kinds <= {"cpu", "cuda"} or len(kinds) > 1:
                return f"devices {','.join(self.devices)}: name two or more of one kind, such as cuda:0,cuda:1"
            if "cuda" in kinds and (len(set(self.devices)) < len(self.devices) or "cuda" in self.devices):
                return f"devices {','.join(self.devices)}: name each GPU once, such as cuda:0,cuda:1"
            if self.compile:
                return "compile is not for several devices; leave one of the two out"
            device = self.devices[0]
        if device.split(":")[0] != "cpu":
            return ""
        for name, asked in (("compile", self.compile), ("bf16", bool(self.bf16))):
            if asked:
                return f"{name} needs a GPU, the device is {device}; leave it out or choose one, such as cuda"
        return ""

    def halves(self, device: str) -> bool:
        """Whether matrices are multiplied in bfloat16 on that device."""
        return device.split(":")[0] != "cpu" if self.bf16 is None else self.bf16
