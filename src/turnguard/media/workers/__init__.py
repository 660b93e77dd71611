"""Child processes that decode untrusted files, so that a file that hangs, crashes or fills the memory harms only its
own reader.

Documents, HEIC and SVG are untrusted input for memory-unsafe libraries. A child holds no credentials: its environment
is nearly empty, it writes no files, and what it answers is plain data that is checked here.
"""

from turnguard.media.workers.pool import Job, submit

__all__ = ["Job", "submit"]
