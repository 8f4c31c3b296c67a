"""The machine: Python, packages, device, processor, memory, disk, open files, ports."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from iota_subnet.doctor.finding import Finding, Needs

GIB = 1 << 30

#: Least and, where there is one, first version that will not do.
PACKAGES: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]] = {
    "torch": ((2, 5), None),
    "bittensor": ((10, 5), (11,)),
    "aiohttp": ((3, 11), None),
    "safetensors": ((0, 5), None),
}

#: Connections and blobs, with room to spare.
OPEN_FILES = 1024

#: Seconds that a connection to our own announced address may take.
REACH_S = 3.0


def machine(needs: Needs, device: str, state_dir: Path) -> Iterator[Finding]:
    """All of it but the ports."""
    yield python()
    yield from packages()
    yield torch_device(device, needs)
    yield cores(os.cpu_count() or 1, needs)
    yield memory(total_memory(), available_memory(), needs)
    yield disk(state_dir, needs)
    yield open_files()


def python(found: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Whether this interpreter is new enough. `found` is (major, minor, micro)."""
    text = ".".join(map(str, found))
    if found >= (3, 10):
        return Finding("Python", "ok", text)
    return Finding("Python", "bad", text, "install Python 3.10 or later, and make the virtual environment with it")


def packages() -> Iterator[Finding]:
    """One finding for each package that a neuron needs: there, and of a version that works."""
    for name, (least, below) in PACKAGES.items():
        wanted = f"{name}>={_dotted(least)}" + (f",<{_dotted(below)}" if below else "")
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Finding(
                name, "bad", "is not installed", f"pip install '{wanted}', or pip install -e . in the repository"
            )
            continue
        number = _number(found)
        if number < least or (below is not None and number >= below):
            yield Finding(name, "bad", f"{found} does not do", f"pip install '{wanted}'")
        else:
            yield Finding(name, "ok", found)


def torch_device(device: str, needs: Needs) -> Finding:
    """Whether torch can compute on `device`, and how much memory it has there."""
    try:
        import torch
    except Exception as error:  # a broken build raises whatever its libraries raise
        advice = "install it again: pip install --force-reinstall torch"
        return Finding("device", "bad", f"torch cannot be imported ({type(error).__name__}: {error})", advice)
    try:
        torch.ones(8, device=device).sum().item()
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Finding("device", "bad", f"{device}: {first[:120]}", "choose --work.device cpu, or install torch for it")
    if not device.startswith("cuda"):
        return Finding("device", "ok", f"{device}, {torch.get_num_threads()} threads")
    held = torch.cuda.get_device_properties(device).total_memory / GIB
    text = f"{device}: {torch.cuda.get_device_name(device)}, {held:.1f} GiB"
    if held < needs.vram:
        return Finding("device", "bad", text, f"needs {needs.vram:.0f} GiB; choose a smaller preset or another GPU")
    return Finding("device", "ok", text)


def cores(found: int, needs: Needs) -> Finding:
    """Whether there are as many CPU cores as `min_compute.yml` asks for."""
    text = f"{found} core{'' if found == 1 else 's'}, {needs.cores} needed"
    if found >= needs.cores:
        return Finding("processor", "ok", text)
    return Finding("processor", "warn", text, "it will be slow, and paid for the little that it does")


def memory(total: float, available: float, needs: Needs) -> Finding:
    """GiB of the machine, and of it what is free now."""
    if not total:
        return Finding("memory", "skipped", "this system does not say", f"{needs.ram:.0f} GiB are needed")
    text = f"{total:.1f} GiB, {available:.1f} free, {needs.ram:.0f} needed"
    if total < needs.ram:
        return Finding("memory", "bad", text, "use a machine with more memory")
    if available < needs.ram:
        return Finding("memory", "warn", text, "stop what else runs here, or it may be killed for memory")
    return Finding("memory", "ok", text)


def total_memory() -> float:
    """GiB, by the limit of the container where there is one; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdigit():
            return int(limit) / GIB
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return 0.0


def available_memory() -> float:
    """GiB that a new program may have; all there is where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return min(int(line.split()[1]) * 1024 / GIB, total_memory())
    return total_memory()


def disk(folder: Path, needs: Needs) -> Finding:
    """Free space where state and evidence go."""
    place = folder.expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free / GIB
    except OSError as error:
        return Finding("disk", "bad", f"{place}: {error.strerror}", "choose another --neuron.state_dir")
    text = f"{free:.1f} GiB free for {folder}, {needs.disk:.0f} needed"
    if not os.access(place, os.W_OK):
        return Finding("disk", "bad", f"{place} cannot be written to", "choose another --neuron.state_dir")
    if free < needs.disk:
        return Finding("disk", "bad", text, "make room, or choose another --neuron.state_dir")
    return Finding("disk", "ok", text)


def open_files() -> Finding:
    """Whether this process may have enough files and sockets open at once."""
    try:
        import resource
    except ImportError:
        return Finding("open files", "skipped", "this system does not say")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return Finding("open files", "ok", f"{soft} at once")
    return Finding("open files", "warn", f"{soft} at once", f"allow {OPEN_FILES}: ulimit -n {min(OPEN_FILES, hard)}")


def port(flag: str, ip: str, number: int, external_ip: str | None) -> Finding:
    """Whether we can listen there, and whether the announced address leads here."""
    name = f"port {number} ({flag})"
    if not number:
        return Finding(f"{flag} 0", "ok", "a free port is chosen", "behind a firewall name one, and open it")
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ip, number))
            listener.listen(1)
        except OSError as error:
            advice = {
                errno.EADDRINUSE: f"stop the program that listens there, or choose another {flag}",
                errno.EACCES: f"choose a {flag} above 1023",
                errno.EADDRNOTAVAIL: "choose an --axon.ip of this machine, such as 0.0.0.0",
            }.get(error.errno or 0, f"choose another {flag}")
            return Finding(name, "bad", f"cannot listen on {ip}: {error.strerror}", advice)
        if external_ip is None:
            return Finding(name, "ok", f"is free on {ip}")
        try:
            socket.create_connection((external_ip, number), REACH_S).close()
        except OSError as error:
            advice = f"forward port {number} to this machine; some routers answer only from outside, so try from there"
            return Finding(name, "warn", f"{external_ip} does not lead here ({error})", advice)
    return Finding(name, "ok", f"is free on {ip}, and {external_ip} leads here")


def _number(text: str) -> tuple[int, ...]:
    """(2, 13, 0) of 2.13.0+cpu."""
    parts: list[int] = []
    for part in text.split("+")[0].split("."):
        digits = "".join(char for char in part if char.isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def _dotted(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))
