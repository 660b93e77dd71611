"""HTTP/1.1 to one moderator: connections, framing, dialling, and a pool for each event loop.

It is our own because a check is one small POST, and because two things must hold that were tried on the libraries in
November 2026 (one POST of 700 bytes to a loopback server; CPU time per request, one after the other / 64 at once):

| client    | CPU time per request, ms |
| ---       | ---                      |
| this one  | 0.03 to 0.05 / 0.03      |
| pyreqwest | 0.06 to 0.08 / 0.04 to 0.05 |
| aiohttp   | 0.09 to 0.15 / 0.09      |
| httpcore2 | 0.32 to 1.05 / 0.39 to 0.43 |

- A stray second reply on an idle connection must not answer the next request: aiohttp hands it over, so that an unsafe
  text is judged by the verdict on another.
- A client that was used before `os.fork` must work in the child: pyreqwest's times out there, and so does a new one.

Nothing is added to it: TLS settings, proxies and the like go through the openai client's stack. Redirects, cookies,
compression and pipelining are absent because nothing that is judged may go where only a reply says so.
"""
