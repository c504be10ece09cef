"""Settings of the process while it trains: threads, memory, Lightning's chatter, Ctrl-C."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Tells glibc's malloc to keep freed blocks instead of handing their pages back after every batch.

    Tensors of a batch are freed and allocated again at once; without this the page faults cost a fifth of the time.
    Does nothing on other C libraries. Stays in force for the process.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)


@contextmanager
def training_process(threads: int) -> Iterator[None]:
    """While in force: `threads` CPU threads, denormals flushed to zero, Lightning silent but for errors.

    The thread count, the log level and the handler of SIGINT (which Lightning replaces when interrupted) are put back.
    Flushing denormals affects latent weights only: everything the device computes is far from that range.
    """
    keep_freed_memory()
    threads_before = torch.get_num_threads()
    lightning_logs = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels_before = [log.level for log in lightning_logs]
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler_before = signal.getsignal(signal.SIGINT) if in_main_thread else None
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    for log in lightning_logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Advice on loader workers, loggers and versions: the loop here is deliberately without any of them.
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_flush_denormal(False)
        for log, level in zip(lightning_logs, levels_before, strict=True):
            log.setLevel(level)
        if in_main_thread and handler_before is not None:
            signal.signal(signal.SIGINT, handler_before)
