"""Processes that hold one stage together, a device each, and do what they are told in step.

Law: the caller holds no device and waits on no device: it hears of a member's death from the operating system, ends the
others, and raises `DevicesLost`. Members end with their caller, also if that was killed. What goes through the pipes
was made by this program on this machine.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any, cast

from iota_subnet.spec import RunSpec
from iota_subnet.train.tuning import Tuning

#: Seconds that a member gets to end by itself.
END_S = 5.0

#: Seconds after a member's complaint in which another one's silent death is taken for its cause.
CAUSE_S = 1.0


class DevicesLost(RuntimeError):
    """A member died or failed; nothing that the team held is left."""


class Team:
    """One process for each of `tuning.devices`. One thread calls it.

    Raises (constructor):
        DevicesLost: a device cannot be used.
    """

    def __init__(self, spec: RunSpec, stage: int, tuning: Tuning, threads: int) -> None:
        self._lost = ""
        self._folder = tempfile.TemporaryDirectory(prefix="iota-devices-")
        store = f"file://{Path(self._folder.name) / 'store'}"
        context = get_context("spawn")
        self._pipes: list[connection.Connection[Any, Any]] = []
        self._members = []
        for rank in range(len(tuning.devices)):
            ours, theirs = context.Pipe()
            given = theirs, os.getpid(), store, rank, spec.to_json(), stage, tuning, threads
            member = context.Process(target=_serve, args=given, daemon=True, name=f"stage-{rank}")
            member.start()
            theirs.close()
            self._pipes.append(ours)
            self._members.append(member)
        self._devices = tuning.devices
        self._answers()

    @property
    def size(self) -> int:
        """How many devices."""
        return len(self._devices)

    def call(self, name: str, *given: Any) -> list[Any]:
        """`name(*given)` of every member's part, and the answers by rank."""
        return self.each(name, [given] * self.size)

    def each(self, name: str, given: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `call`, with arguments by rank.

        Raises:
            DevicesLost: a member died or failed, now or earlier.
        """
        if self._lost:
            raise DevicesLost(self._lost)
        try:
            for pipe, arguments in zip(self._pipes, given, strict=True):
                pipe.send((name, arguments))
        except OSError:
            # Whoever does not listen is dead; which one it was shows when the answers are read.
            pass
        return self._answers()

    def close(self) -> None:
        """End the members. What is called later raises DevicesLost."""
        self._lost = self._lost or "the devices were given back"
        for pipe in self._pipes:
            pipe.close()
        for member in self._members:
            member.join(END_S)
            if member.is_alive():
                member.kill()
                member.join()
        self._folder.cleanup()

    def _answers(self) -> list[Any]:
        answers: dict[int, Any] = {}
        while len(answers) < self.size:
            waiting = [rank for rank in range(self.size) if rank not in answers]
            connection.wait([*(self._pipes[rank] for rank in waiting), *(m.sentinel for m in self._members)])
            for rank in waiting:
                try:
                    if self._pipes[rank].poll():
                        done, answers[rank] = self._pipes[rank].recv()
                        if not done:
                            self._blame(rank, str(answers[rank]))
                except (EOFError, OSError):
                    self._lose(rank, "its process ended")
            # One that has answered and died since is as lost as one that dies at work.
            dead = [rank for rank, member in enumerate(self._members) if not member.is_alive()]
            if dead:
                self._lose(dead[0], f"its process ended with code {self._members[dead[0]].exitcode}")
        return [answers[rank] for rank in range(self.size)]

    def _blame(self, rank: int, complaint: str) -> None:
        """`rank` failed: by itself, or because another one died at work, which often is heard of later."""
        quiet = [other for other in range(self.size) if other != rank]
        until = time.monotonic() + CAUSE_S
        while quiet and (left := until - time.monotonic()) > 0:
            for pipe in connection.wait([self._pipes[other] for other in quiet], left):
                other = self._pipes.index(cast("connection.Connection[Any, Any]", pipe))
                try:
                    done, _ = self._pipes[other].recv()
                except (EOFError, OSError):
                    self._lose(other, "its process ended")
                if not done:
                    quiet.remove(other)
        self._lose(rank, complaint)

    def _lose(self, rank: int, reason: str) -> None:
        self._lost = f"device {rank} ({self._devices[rank]}) of the stage was lost: {reason}"
        # The others wait for one that will not come.
        for member in self._members:
            member.kill()
        self.close()
        raise DevicesLost(self._lost)


def _serve(
    pipe: connection.Connection[Any, Any],
    parent: int,
    store: str,
    rank: int,
    spec: str,
    stage: int,
    tuning: Tuning,
    threads: int,
) -> None:
    """A member's life."""
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        # One that waits for another device reads no pipe.
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    try:
        import torch

        from iota_subnet.train.part import Part

        torch.set_num_threads(threads)
        part = Part(RunSpec.from_json(spec), stage, tuning, rank, store)
        pipe.send((True, None))
        while True:
            name, given = pipe.recv()
            pipe.send((True, getattr(part, name)(*given)))
    except (EOFError, BrokenPipeError):
        # No goodbye to the others: they are told the same, and may be gone already.
        os._exit(0)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        pipe.send((False, (text.splitlines() or [text])[0][:300]))
        os._exit(1)
