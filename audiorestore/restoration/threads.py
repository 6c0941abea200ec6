"""How many threads numpy's products may use: one, as their number decides the last bits of a sum."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def use_one_blas_thread() -> None:
    """Let BLAS work in one thread from now on, in the whole process.

    How a product is shared out among threads changes the order of its sums, so a fit of hum would depend on the number
    of cores, and the network would make more of it. It is not set back: other files may be in work at the same time.
    Cores are kept busy by chunks, channels and files instead.
    """
    threadpool_limits(limits=1, user_api="blas")
