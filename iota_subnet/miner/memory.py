"""What the C library does with memory that is given back. Law: a miner that merges needs the same memory again.

glibc hands large blocks back to the kernel when they are freed, and every thread but the first has heaps that it
unmaps; the next merge then faults the same hundred megabytes in again, page by page.
"""

from __future__ import annotations

import ctypes
import sys

#: mallopt(3): parameters of glibc's malloc.h, and what they are set to.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_SETTINGS = (
    (_M_ARENA_MAX, 1),
    (_M_MMAP_THRESHOLD, 32 << 20),
    (_M_TRIM_THRESHOLD, (1 << 31) - 1),
    (_M_TOP_PAD, 64 << 20),
)


def keep_freed() -> bool:
    """Let this process keep what it frees for itself; whether the C library has agreed. Others than glibc are left
    alone."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)
