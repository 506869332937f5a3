"""Keeps memory that torch frees on a CPU, instead of giving it back to the system at once.

glibc serves large tensors by `mmap` and unmaps them when they are freed, so every step of a training run
writes to fresh pages, which the kernel has to clear and map first: more work than many of the operations that
fill them. Kept on the heap, the same pages serve the next step. (Tuning guide of PyTorch, "memory allocator";
`mallopt(3)`.)
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_BYTES, TRIM_BYTES = 1 << 30, (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, for the life of this process; elsewhere do nothing.

    What the user has set by `MALLOC_MMAP_THRESHOLD_` or `MALLOC_TRIM_THRESHOLD_` stays.

    Returns:
        True if it is done.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & set(os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)) and bool(mallopt(M_TRIM_THRESHOLD, TRIM_BYTES))
