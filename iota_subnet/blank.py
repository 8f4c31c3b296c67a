"""A `bytes` that is written before anybody reads it, without being zeroed first.

Law: what memory held before is never handed out. Whoever finishes a blank has written all of it.
"""

from __future__ import annotations

import ctypes
import io
import sys
from collections.abc import Callable


def _allocator() -> Callable[[int], bytes]:
    """CPython gives a `bytes` of no content in particular; elsewhere it is zeroed."""
    if sys.implementation.name != "cpython":
        return bytes
    give = ctypes.pythonapi.PyBytes_FromStringAndSize
    give.restype, give.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)
    return lambda nbytes: give(None, nbytes)


_allocate = _allocator()


class Blank:
    """`nbytes` bytes to be written. Pages that nothing has touched yet cost nothing."""

    def __init__(self, nbytes: int) -> None:
        self._file = io.BytesIO(_allocate(nbytes))

    def view(self) -> memoryview:
        """The memory, to write to; release it before `finish`."""
        return self._file.getbuffer()

    def finish(self) -> bytes:
        """The bytes, all of which have been written."""
        # The very object that was filled: getvalue copies only what is shared or has grown.
        return self._file.getvalue()
