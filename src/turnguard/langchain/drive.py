"""Hooks written once: a generator yields what it wants, and one of two drivers runs it.

It yields a coroutine for what is ours to do (a judgement), or a function for the host's own call, and is sent what came
of it. An error goes back into the generator where it was raised.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias, TypeVar

from turnguard.runtime import sync

T = TypeVar("T")

Wanted: TypeAlias = Coroutine[Any, Any, Any] | Callable[[], Any]
Steps: TypeAlias = Generator[Wanted, Any, T]


def drive(steps: Steps[T]) -> T:
    """Run a hook from synchronous code: the host's call is a plain one."""
    try:
        wanted = next(steps)
        while True:
            try:
                done = wanted() if callable(wanted) else sync.run(wanted)
            except BaseException as error:  # noqa: BLE001 - the hook decides what becomes of it
                wanted = steps.throw(error)
            else:
                wanted = steps.send(done)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def adrive(steps: Steps[T]) -> T:
    """Run a hook from asynchronous code: the host's call is awaited."""
    try:
        wanted = next(steps)
        while True:
            try:
                done = await (wanted() if callable(wanted) else wanted)
            except BaseException as error:  # noqa: BLE001 - the hook decides what becomes of it
                wanted = steps.throw(error)
            else:
                wanted = steps.send(done)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
