"""Measures a served tiny moderator: ``python -m tests.vllm.tiny.evaluate URL [--count N] [--seed S]``.

The kinds are those of ``strata``. An answer counts only if every character is right.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import sys
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.vllm.tiny import strata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.vllm.tiny import examples


def request(one: examples.Example) -> dict[str, Any]:
    content: Any = one.user
    if one.picture is not None:
        file = io.BytesIO()
        one.picture.save(file, "PNG")
        url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": one.user}]
    messages = [{"role": "user", "content": content}]
    if one.response is not None:
        messages.append({"role": "assistant", "content": one.response})
    flag = "/categories" if one.categories else "/no_categories"
    kwargs = {"request_categories": flag}
    return {"messages": messages, "max_tokens": 100, "temperature": 0, "chat_template_kwargs": kwargs}


async def evaluate(url: str, cases: Iterable[strata.Case]) -> tuple[dict[str, list[int]], list[str]]:
    """How many are right and how many were asked, for each kind; and every wrong answer, told in three lines.

    ``url`` is without ``/v1``.
    """
    gate, found, wrong = asyncio.Semaphore(8), dict[str, list[int]](), list[str]()
    async with aiohttp.ClientSession() as session:

        async def ask(name: str, one: examples.Example) -> None:
            async with gate, session.post(url.rstrip("/") + "/v1/chat/completions", json=request(one)) as reply:
                data = await reply.json()
            said = data["choices"][0]["message"]["content"] if reply.status == 200 else str(data)
            tally = found.setdefault(name, [0, 0])
            tally[0] += said == one.answer
            tally[1] += 1
            if said != one.answer:
                wrong.append(
                    f"{name}: {one.user[:300]!r} / {(one.response or '')[:300]!r}\n  {said!r}\n  {one.answer!r}\n"
                )

        await asyncio.gather(*(ask(name, one) for name, one in cases))
    return found, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=100, help="conversations of each kind that is drawn at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many of the wrong answers")
    options = parser.parse_args()
    found, wrong = asyncio.run(evaluate(options.url, strata.cases(options.seed, options.count)))
    sys.stderr.write("".join(wrong[: options.show]))
    for name, (right, total) in found.items():
        sys.stdout.write(f"{name}: {right}/{total}\n")


if __name__ == "__main__":
    main()
