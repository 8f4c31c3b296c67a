"""The outermost shell of a neuron program: run a coroutine, turn a NeuronError into one line and exit code 2."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence

from template.errors import NeuronError

EXIT_NEURON_ERROR = 2
EXIT_INTERRUPTED = 130


def main(run: Callable[[Sequence[str]], Awaitable[object]], argv: Sequence[str] | None = None) -> int:
    """Run `run(argv)` on a fresh event loop and return the exit code; `sys.exit(main(run))` is the caller's line.

    0 when it ends, 2 after a NeuronError (its one line on stderr, no traceback), 130 after Ctrl-C. Any other exception
    is a defect and passes through with its traceback.
    """

    async def body() -> None:
        await run(sys.argv[1:] if argv is None else argv)

    try:
        asyncio.run(body())
    except NeuronError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_NEURON_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
