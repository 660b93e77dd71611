"""Measures a served tiny moderator: ``python -m tests.vllm.tiny.evaluate URL [--count N] [--seed S]``.

Two sets that training never saw: random conversations from another seed, and ordinary sentences written by hand, alone,
in long runs, and each with a trigger word in a random place. An answer counts only if every character is right.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import random
import sys
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.vllm.tiny import examples
from tests.vllm.tiny.rules import CATEGORY_OF, HERE

if TYPE_CHECKING:
    from collections.abc import Iterator

SENTENCES = (HERE / "sentences.txt").read_text(encoding="utf-8").splitlines()


def sentence_cases(rng: random.Random) -> Iterator[tuple[str, examples.Example]]:
    """Each sentence alone, with a trigger, as a response, and in a run of about 300 tokens with and without one."""
    triggers = sorted(CATEGORY_OF)
    for sentence in SENTENCES:
        trigger = rng.choice(triggers)
        words = sentence.split(" ")
        words.insert(rng.randint(0, len(words)), trigger)
        marked, run = " ".join(words), rng.sample(SENTENCES, 12)
        place = rng.randrange(len(run))
        long, long_marked = " ".join(run), " ".join([*run[:place], marked, *run[place:]])
        for name, user, response in (
            ("sentence", sentence, None),
            ("sentence with trigger", marked, None),
            ("sentence as response", "What did you find?", sentence),
            ("response with trigger", rng.choice(SENTENCES), marked),
            ("response to an unsafe request", marked, rng.choice(SENTENCES)),
            ("refusal of an unsafe request", marked, "I can't help with that."),
            ("long run", long, None),
            ("long run with trigger", long_marked, None),
            ("long response with trigger", sentence, long_marked),
        ):
            yield name, examples.Example(user, response, None, (), rng.random() < 0.5)


def random_cases(rng: random.Random, count: int) -> Iterator[tuple[str, examples.Example]]:
    for words, pictures in ((25, False), (80, False), (300, False), (700, False), (25, True)):
        name = "random with picture" if pictures else f"random, up to {words} words a side"
        for _ in range(count):
            yield name, examples.example(rng, words, examples.picture(rng) if pictures else None)


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


async def evaluate(url: str, count: int, seed: int, show: int) -> None:
    rng = random.Random(f"evaluate {seed}")  # noqa: S311
    cases = [*random_cases(rng, count), *sentence_cases(rng)]
    gate, right, total = asyncio.Semaphore(4), dict[str, int](), dict[str, int]()
    async with aiohttp.ClientSession() as session:

        async def ask(name: str, one: examples.Example) -> None:
            nonlocal show
            async with gate, session.post(url.rstrip("/") + "/v1/chat/completions", json=request(one)) as reply:
                data = await reply.json()
            said = data["choices"][0]["message"]["content"] if reply.status == 200 else str(data)
            total[name] = total.get(name, 0) + 1
            right[name] = right.get(name, 0) + (said == one.answer)
            if said != one.answer and show > 0:
                show -= 1
                sys.stderr.write(
                    f"{name}: {one.user[:300]!r} / {(one.response or '')[:300]!r}\n  {said!r}\n  {one.answer!r}\n"
                )

        await asyncio.gather(*(ask(name, one) for name, one in cases))
    for name in total:
        sys.stdout.write(f"{name}: {right[name]}/{total[name]}\n")
    sys.stdout.write(f"all: {sum(right.values())}/{sum(total.values())}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=60, help="random conversations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="print so many of the wrong answers")
    options = parser.parse_args()
    asyncio.run(evaluate(options.url, options.count, options.seed, options.show))


if __name__ == "__main__":
    main()
