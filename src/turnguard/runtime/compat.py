"""What newer Pythons have built in."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout  # aiohttp brings it on 3.10

__all__ = ["timeout"]
