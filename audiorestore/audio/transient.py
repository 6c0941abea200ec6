"""Which errors of disk and network may be gone a moment later."""

from __future__ import annotations

import errno

_NUMBERS = {
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENOLCK, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE),
}
# Status of an answer by HTTP: request timeout, too early, too many requests, and trouble on the server's side.
_STATUS = {408, 425, 429, 500, 502, 503, 504}
# By name, since these packages are extras. What is wrong with a name, a key or a password stays so.
_PACKAGES = {"aiohttp", "botocore", "paramiko"}
_LASTING = {"AuthenticationException", "BadHostKeyException", "NoCredentialsError", "InvalidURL", "ClientError"}


def is_transient(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, may be gone a moment later."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError | EOFError):
            return True
        if isinstance(error, OSError) and error.errno in _NUMBERS:
            return True
        if type(error).__module__.split(".")[0] in _PACKAGES and _may_pass(error):
            return True
        error = error.__cause__
    return False


def _may_pass(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int) and status >= 400:
        return status in _STATUS
    return not any(kind.__name__ in _LASTING for kind in type(error).__mro__[:2])
