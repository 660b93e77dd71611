"""The one bridge from synchronous code: a daemon thread with an event loop, shared by all guards of the process.

It works with and without a running event loop in the caller's thread, and from any thread; not from the bridge's own.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

T = TypeVar("T")

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the bridge's loop and wait for its result. An interrupt while waiting cancels it."""
    loop = _bridge()
    if threading.current_thread() is _thread:
        coroutine.close()
        raise RuntimeError("a synchronous check was called from a coroutine of Turnguard itself; await the async one")
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def iterate(source: AsyncIterable[T]) -> Iterator[T]:
    """Iterate an async iterable from synchronous code. Leaving the loop early closes it."""
    iterator = source.__aiter__()
    try:
        while True:
            try:
                yield run(_next(iterator))
            except StopAsyncIteration:
                return
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            run(close())


async def _next(iterator: AsyncIterator[T]) -> T:
    return await iterator.__anext__()


async def in_thread(source: Iterator[T]) -> AsyncIterator[T]:
    """Iterate a synchronous iterator from a worker thread, in the context that this was called in."""
    context = contextvars.copy_context()
    done = object()
    iterator = iter(source)
    close = getattr(iterator, "close", None)
    pull: asyncio.Future[T | object] | None = None
    try:
        while True:
            pull = asyncio.ensure_future(asyncio.to_thread(lambda: context.run(_pulled, iterator, done)))
            if (item := await asyncio.shield(pull)) is done:
                return
            yield cast("T", item)
    finally:
        if pull is not None and not pull.done():
            # cancelled while the thread waits for an item: it cannot be stopped, and a running generator not be closed
            pull.add_done_callback(lambda pulled: _close_late(pulled, close))
        elif close is not None:
            await asyncio.to_thread(context.run, close)


def _close_late(pulled: asyncio.Future[Any], close: Callable[[], object] | None) -> None:
    if not pulled.cancelled():
        pulled.exception()  # nobody is left to hear of it
    if close is not None:
        threading.Thread(target=close, name="turnguard-close", daemon=True).start()


def _pulled(iterator: Iterator[T], done: object) -> T | object:
    return next(iterator, done)


def loop_if_running() -> asyncio.AbstractEventLoop | None:
    """The bridge's loop when it was ever needed, so that closing can let go of what is bound to it."""
    return _loop


def _bridge() -> asyncio.AbstractEventLoop:
    global _loop, _thread  # noqa: PLW0603 - one bridge per process is the point
    with _lock:
        if _loop is None or _thread is None or not _thread.is_alive():
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="turnguard-sync", daemon=True)
            _thread.start()
        return _loop


def _stop() -> None:
    """End the bridge at exit: cancel what is left and let connections close."""
    global _loop, _thread
    with _lock:
        loop, thread, _loop, _thread = _loop, _thread, None, None
    if loop is None or thread is None:
        return

    async def settle() -> None:
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await loop.shutdown_asyncgens()

    if thread.is_alive():
        asyncio.run_coroutine_threadsafe(settle(), loop).result(2.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2.0)
        loop.close()


def _forget() -> None:
    """In a forked child the thread does not exist: begin anew."""
    global _lock, _loop, _thread
    _lock, _loop, _thread = threading.Lock(), None, None


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
