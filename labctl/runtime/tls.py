"""One broken TLS connection must not break the others of its thread; under gevent that is every connection there is.

OpenSSL keeps a queue of errors for each thread. From 3.2 on it notes system errors there, and Python 3.13 (Debian 13
has it with OpenSSL 3.5) leaves such a one in the queue when it raises it. The next read on any other connection that
merely has to wait then finds it and raises it as its own: `Broken pipe` from a peer that is well.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Callable
from typing import Any

_METHODS = ("do_handshake", "read", "write", "send", "unwrap")  # those that call OpenSSL; all others call these


def isolated(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, whose connections from now on keep their errors to themselves."""
    base: Any = context.sslsocket_class
    context.sslsocket_class = _isolated(base)
    return context


@functools.cache
def _isolated(base: Any) -> Any:
    """`base` (Python's socket class or gevent's), with the queue emptied after each error."""
    return type("Isolated", (base,), {name: _careful(getattr(base, name)) for name in _METHODS})


def _careful(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            _forget(error)
            raise

    return call


def _forget(error: OSError) -> None:
    """Empty this thread's queue. Every handshake begins so, even one that has nothing to read."""
    if isinstance(error, (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)):
        return
    with contextlib.suppress(ssl.SSLError):
        _handshakes().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True).do_handshake()


@functools.cache
def _handshakes() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
