"""Loads a miner that cheats from a file, to see what the subnet does about it.

Law: only for a chain that listens on this very machine. A class in a file is code of whoever wrote it, and nobody
should find a flag here that cheats strangers.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from loguru import logger

from iota_subnet.miner.conduct import NOBODY, Conduct, Me
from template.errors import BadSettings

if TYPE_CHECKING:
    from iota_subnet.settings import MinerSettings

FLAG = "--work.conduct (WORK_CONDUCT)"


def chosen(settings: MinerSettings, hotkey: str) -> Conduct:
    """How the miner `hotkey` is told to behave: honestly, unless --work.conduct says otherwise. Raises BadSettings."""
    what = settings.work.conduct
    if what is None:
        return Conduct()
    endpoint = settings.subtensor.endpoint
    if not is_here(endpoint):
        raise BadSettings(f"{FLAG}: refused, {endpoint} is not on this machine; a cheat is for `iota localnet` only")
    try:
        conduct = load(what, me(hotkey, settings.work.conduct_friends))
    except BadSettings as error:
        raise BadSettings(f"{FLAG}: {error}") from None
    logger.warning("this miner cheats: {}", what)
    return conduct


def is_here(endpoint: str) -> bool:
    """Whether a chain's address is a loopback address; a name other than localhost may lead anywhere."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def me(hotkey: str, friends: str) -> Me:
    """Who `hotkey` is among those who run the same class. Raises BadSettings."""
    if not friends:
        return Me(hotkey)
    names = tuple(name.strip() for name in friends.split(","))
    if hotkey not in names:
        raise BadSettings(f"--work.conduct_friends lacks this miner's own hotkey {hotkey}")
    return Me(hotkey, names.index(hotkey), len(names), tuple(name for name in names if name != hotkey))


def load(what: str, me: Me = NOBODY) -> Conduct:
    """The conduct that FILE.py:CLASS describes. Raises BadSettings with one line."""
    path, _, name = what.rpartition(":")
    if not path or not name:
        raise BadSettings(f"{what!r} is not FILE.py:CLASS")
    cls = getattr(module(Path(path)), name, None)
    if cls is None:
        raise BadSettings(f"{path} has no class {name}")
    if not isinstance(cls, type) or not issubclass(cls, Conduct):
        raise BadSettings(f"{name} of {path} is no subclass of iota_subnet.miner.conduct.Conduct")
    try:
        return cls(me)
    except Exception as error:
        raise BadSettings(f"{name} of {path} cannot be made: {_line(error)}") from None


def module(path: Path) -> ModuleType:
    """A file as a module, run once in this process. Raises BadSettings."""
    full = path.expanduser().resolve()
    if not full.is_file():
        raise BadSettings(f"there is no file {path}")
    # Dataclasses, among others, look for the module that they are defined in.
    name = f"conduct:{full}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise BadSettings(f"{path} is no Python file")
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    except Exception as error:
        del sys.modules[name]
        raise BadSettings(f"{path} cannot be loaded: {_line(error)}") from None
    return made


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
