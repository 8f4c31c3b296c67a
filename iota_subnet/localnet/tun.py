"""Network namespaces that nobody has to remove, with a TUN device each. Linux, root.

A namespace here has no name: it lives as long as a process is in it or a descriptor of it is open, and a TUN device as
long as its own descriptor. So nothing is left over, whoever is killed. The host's own network is never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

from template.errors import BadSettings

#: RFC 2544: addresses for measuring networks, which are routed nowhere.
NETWORK = "198.18.0."
NETMASK = "255.255.255.0"
HUB = f"{NETWORK}1"

#: The one that every Linux lets a namespace choose, and the most timid of them in the face of loss: what gets through
#: with it gets through with cubic and bbr. The host's own choice would make runs differ from host to host.
CONGESTION_CONTROL = "reno"
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")

CLONE_NEWNET = 0x40000000
DEVICE = "/dev/net/tun"
NAME = b"iota0"

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x0001 | 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU = 0x8916, 0x891C, 0x8922
_IFF_UP = 0x1

#: Network namespace of the calling thread.
HERE = "/proc/thread-self/ns/net"


def address_of(miner: int) -> str:
    """The address of a miner's end; the hub is .1."""
    return f"{NETWORK}{10 + miner}"


#: Miners whose addresses fit.
MINERS_MAX = 240


def check() -> None:
    """Raise BadSettings, in one line, where links cannot be emulated."""
    if sys.platform != "linux":
        why = f"needs Linux, this is {sys.platform}"
    elif os.geteuid() != 0:
        why = "needs root, to make network namespaces; try sudo"
    elif not Path(DEVICE).exists():
        why = f"needs {DEVICE}; load it with: modprobe tun"
    else:
        why = _try()
    if why:
        raise BadSettings(f"--link {why}, or leave --link out")


def _try() -> str:
    """Make a namespace and a device for a moment; why that does not work here, or nothing."""
    child = os.fork()
    if child == 0:
        try:
            unshare()
            os.close(open_tun(HUB, 1400))
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return "" if code == 0 else f"cannot make a network namespace with a TUN device here ({os.strerror(code)})"


def unshare() -> None:
    """Put the calling thread into a new network namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # A read-only /proc/sys keeps the host's choice.
    with contextlib.suppress(OSError):
        _CONGESTION_CONTROL.write_text(CONGESTION_CONTROL)


def enter(namespace: int) -> None:
    """Put the calling thread, and what it starts from now on, into an open namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def open_tun(address: str, mtu: int) -> int:
    """A TUN device in the present namespace, up, with `address`: a descriptor that gives and takes one IP packet at a
    time and never blocks. The loopback of the namespace goes up too. Raises OSError."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:

        def configure(name: bytes, request: int, value: bytes) -> bytes:
            return fcntl.ioctl(control, request, struct.pack("16s24s", name, value))

        def up(name: bytes) -> None:
            flags: int = struct.unpack_from("16xH", configure(name, _SIOCGIFFLAGS, b""))[0]
            configure(name, _SIOCSIFFLAGS, struct.pack("H", flags | _IFF_UP))

        tun = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", NAME, _IFF_TUN_NO_PI))
            configure(NAME, _SIOCSIFMTU, struct.pack("i", mtu))
            configure(NAME, _SIOCSIFADDR, _inet(address))
            configure(NAME, _SIOCSIFNETMASK, _inet(NETMASK))
            up(NAME)
            up(b"lo")
        except BaseException:
            os.close(tun)
            raise
        return tun


def _inet(address: str) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("=HH4s8x", socket.AF_INET, 0, packed(address))


def packed(address: str) -> bytes:
    """The four bytes of an IPv4 address, as packets carry them."""
    return socket.inet_aton(address)
