"""One log: loguru on stderr, with the standard library's `logging` and the SDK's `bt.logging` routed into it.

Importing bittensor 10.5 does three things to a process's logs, undone by `adopt_bittensor`: it starts a queue, a
listener thread and a feeder thread of its own that print to stdout (children started by spawn end in an EOFError
trace); it raises every other logger to CRITICAL; and it strips their handlers.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import traceback
from datetime import timezone
from pathlib import Path
from types import FrameType
from typing import Any

from loguru import logger

FORMAT = "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {extra[who]}<level>{message}</level>"
FILE_FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level: <7} {extra[who]}{name}:{line} {message}"


class _Router(logging.Handler):
    """Hands every record of the standard library's logging to loguru, with the caller's own file and line."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level: str | int = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        frame: FrameType | None = logging.currentframe()
        depth = 2
        while frame is not None and frame.f_code.co_filename == logging.__file__:
            frame = frame.f_back
            depth += 1
        logger.opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())


def setup(
    level: str = "INFO", *, file: Path | None = None, who: str = "", sink: Any = None, as_json: bool = False
) -> None:
    """Send all logs to `sink` (stderr) at `level`, and to `file` when given (20 MB each, 5 kept).

    `as_json` writes one JSON object a line instead: `at` (ISO 8601, UTC), `level`, `who`, `where`, `text`, and `error`
    with the traceback of an exception. `who` is bound to every line, e.g. `short(hotkey)`. May be called again; the
    last call wins.
    """
    logger.remove()
    logger.configure(extra={"who": f"{who} " if who else ""})
    # diagnose=False: loguru would print the values of local variables, keys among them, below a traceback.
    logger.add(
        sink or sys.stderr, level=level, format=_as_json if as_json else FORMAT, diagnose=False, backtrace=False,
        colorize=False if as_json else None,
    )  # fmt: skip
    if file is not None:
        logger.add(
            file.expanduser(), level=level, format=_as_json if as_json else FILE_FORMAT, rotation="20 MB", retention=5,
            diagnose=False, backtrace=False, encoding="utf-8",
        )  # fmt: skip
    least = logger.level(level).no
    logging.basicConfig(handlers=[_Router()], level=least, force=True)
    # The SDK greets at INFO when it is imported, on stdout, before anybody can stop it.
    logging.getLogger("bittensor").setLevel(logging.WARNING)
    for chatty in ("asyncio", "websockets", "urllib3", "aiohttp.access", "uvicorn.access", "async_substrate_interface"):
        logging.getLogger(chatty).setLevel(max(least, logging.WARNING))
    adopt_bittensor()


def _as_json(record: Any) -> str:
    """A template for loguru: what it puts in is already one line of JSON."""
    found = record["exception"]
    error = "".join(traceback.format_exception(found.type, found.value, found.traceback)) if found else None
    line = {
        "at": record["time"].astimezone(timezone.utc).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "who": str(record["extra"].get("who", "")).strip(),
        "where": f"{record['name']}:{record['line']}",
        "text": record["message"],
    }
    record["extra"]["json"] = json.dumps(line | ({"error": error} if error else {}), default=str)
    return "{extra[json]}\n"


def adopt_bittensor() -> None:
    """If the SDK has been imported, stop its private queue and let its records flow to the root logger. Idempotent.

    Called right after every import of the SDK in this package. Source: bittensor 10.5 `utils/btlogging`.
    """
    module = sys.modules.get("bittensor")
    machine = getattr(module, "logging", None)
    listener = getattr(machine, "_listener", None)
    if machine is None or listener is None or getattr(machine, "_adopted", False):
        return
    # Its own logger first, so that nothing is queued behind the listener's back.
    own = logging.getLogger("bittensor")
    for handler in list(own.handlers):
        own.removeHandler(handler)
    own.propagate = True
    own.setLevel(logging.WARNING)
    # Otherwise the interpreter's exit would stop the listener a second time, which raises in Python < 3.12.
    atexit.unregister(listener.stop)
    listener.stop()
    machine._queue.close()
    machine._queue.join_thread()
    # A later `bt.logging.set_debug()` restarts the listener around its state change; make that harmless.
    machine._listener = _NoListener()
    machine._adopted = True
    for name, other in list(logging.root.manager.loggerDict.items()):
        if isinstance(other, logging.Logger) and other.level == logging.CRITICAL and name != "bittensor":
            other.setLevel(logging.NOTSET)
    # It tells of a node that stopped answering by two tracebacks from a thread of its own; ChainUnreachable says it.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


class _NoListener:
    """Stands in for the SDK's queue listener once its queue is closed."""

    handlers: tuple[logging.Handler, ...] = ()

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""


def short(hotkey: str) -> str:
    """`5Grwva..utQY`: enough of a hotkey to recognise it in a log."""
    return hotkey if len(hotkey) <= 14 else f"{hotkey[:6]}..{hotkey[-4:]}"
