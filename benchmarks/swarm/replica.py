"""One replica in a process of its own: `python -m swarm.replica SOCKET INDEX`. Ends with its coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import os
import sys

import msgspec
from loguru import logger

from iota_subnet.spec import RunSpec
from swarm import words
from swarm.adapter import Replica


async def work(path: str, index: int) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    decoder = msgspec.msgpack.Decoder(words.Down)

    def send(word: msgspec.Struct) -> None:
        writer.write(words.frame(word))

    setup = await words.read(reader, decoder)
    replica = Replica(RunSpec.from_json(setup.spec), setup.issuer, index, send)
    await replica.server.start()
    send(words.Hello(index, replica.server.url))
    try:
        while True:
            word = await words.read(reader, decoder)
            if isinstance(word, words.Train):
                await replica.train(word.epoch)
                send(words.Trained(word.epoch))
            elif isinstance(word, words.Check):
                send(await replica.check(word))
            elif isinstance(word, words.Count):
                send(words.Sent(replica.server.bytes_out.total, replica.fetcher.bytes_in.total))
            else:
                replica.obey(word)
    except asyncio.IncompleteReadError:
        await replica.close()


def main() -> None:
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    profile = os.environ.get("SWARM_PROFILE")
    watched = cProfile.Profile() if profile else contextlib.nullcontext()
    with watched:
        asyncio.run(work(sys.argv[1], int(sys.argv[2])))
    if profile:
        watched.dump_stats(f"{profile}.{sys.argv[2]}")


if __name__ == "__main__":
    main()
