"""One rank of torch.distributed's gloo all-reduce, led by lines of JSON on standard input.

    python gloo.py RANK RANKS VALUES STORE-FILE

{"do": "go"}  all-reduce; answers {"began", "ended"} (monotonic), "ok". No redundancy: one dead rank fails all.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from torch import distributed


def main() -> None:
    rank, ranks, size = map(int, sys.argv[1:4])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{sys.argv[4]}", rank=rank, world_size=ranks)
    values = torch.empty(size)
    print("> {}", flush=True)
    for _ in sys.stdin:
        values.fill_(float(rank + 1))
        began = time.monotonic()
        distributed.all_reduce(values)
        values.div_(ranks)
        ended = time.monotonic()
        ok = bool((values == (ranks + 1) / 2).all())
        print("> " + json.dumps({"began": began, "ended": ended, "ok": ok}), flush=True)


if __name__ == "__main__":
    main()
