"""One message written anew: blocks removed, parts replaced, and what is left still valid for its provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from turnguard.core.step import Part, Text
from turnguard.transcripts import calls
from turnguard.transcripts.block import ARTIFACT, Block
from turnguard.transcripts.message import ARTIFACTS, CALL_FIELDS, CONTENT, Reading
from turnguard.transcripts.names import VALUES
from turnguard.transcripts.read import plain
from turnguard.transcripts.write import GONE, rebuilt, text_like

_LISTS_OF_BLOCKS = {"content", "parts", "output", "value"}
"""Fields whose lists take a block of text in place of any other block."""
_TEXT_FIELDS = {"key:text", "key:content", "key:output", "key:result", "self"}


class Edit(NamedTuple):
    """A part that changes: its position in the message, what stands in its place (None: withheld), and the notice."""

    at: int
    part: Part | None
    notice: str


def write_message(
    message: Any, reading: Reading, gone: Mapping[tuple[str | None, int | None], str], edits: Sequence[Edit]
) -> Any:
    """The message as it is passed on; `GONE` where nothing of it may stay and nothing need stand in its place.

    `gone` names blocks that leave as a whole, by field and index, with the notice to write in their place.
    """
    source = plain(message)
    told = next(iter((*gone.values(), *(edit.notice for edit in edits))))
    if not isinstance(source, Mapping):
        return {"role": "user", "content": told}
    if reading.bare:
        return _bare(source, reading, gone, edits, told)
    if reading.speaker == "tool" and gone:
        return GONE  # the notice stands in the place of the call
    answers = {
        (leaf.field, leaf.block.index)
        for leaf in reading.leaves
        if leaf.block.region == "result" and reading.speaker != "assistant"
    }
    new = dict(source)
    changes: dict[str, list[tuple[Block, Part | None, str]]] = {}
    for edit in edits:
        first = reading.leaves[edit.at]
        for leaf in (first, *reading.mirrors.get(edit.at, ())):
            changes.setdefault(str(leaf.field), []).append((leaf.block, edit.part, edit.notice))
    for at, mirrors in reading.mirrors.items():
        if (reading.leaves[at].field, reading.leaves[at].block.index) in gone:
            for leaf in mirrors:
                changes.setdefault(str(leaf.field), []).append((leaf.block, None, told))
    for name in dict.fromkeys([*changes, *(str(name) for name, _ in gone)]):
        removed = {
            index: "" if (field, index) in answers else text for (field, index), text in gone.items() if field == name
        }
        value = _field(name, source.get(name), changes.get(name, ()), removed)
        if value is GONE:
            new.pop(name, None)
        else:
            new[name] = value
    if "role" in changes:
        new["role"] = "user"
    for name in ARTIFACTS:  # what a program reads beside the text says the same, and goes with it
        new.pop(name, None)
    return _valid(new, source, reading, told)


def _valid(new: dict[str, Any], source: Mapping[str, Any], reading: Reading, told: str) -> Any:
    """The message with something to say where nothing is left of it; `GONE` where it only carried results."""
    said = next((name for name in CONTENT if name in source), "content")
    for name in CALL_FIELDS:
        if name in new and not new[name]:
            del new[name]
    if any(new.get(name) for name in (*CONTENT, *CALL_FIELDS)):
        if said not in new and said in source:
            new[said] = source[said] if not source[said] else ([] if isinstance(source[said], list) else None)
        return new
    if reading.speaker == "tool" or (
        reading.leaves and all(leaf.block.region == "result" for leaf in reading.leaves if leaf.field in CONTENT)
    ):
        return GONE
    return {**new, said: _notice_as(source.get(said), said, told)}


def _notice_as(content: Any, field: str, text: str) -> Any:
    """A notice in the form of the content that it stands for."""
    if isinstance(content, (list, tuple)) and content:
        return [text_like(plain(content[0]), text)]
    return [{"text": text}] if field == "parts" else text


def _bare(
    item: Mapping[str, Any],
    reading: Reading,
    gone: Mapping[tuple[str | None, int | None], str],
    edits: Sequence[Edit],
    told: str,
) -> Any:
    """A bare item: gone, replaced by a message of the assistant, or rewritten."""
    if gone:
        return GONE if reading.speaker == "tool" else {"role": "assistant", "content": told}
    changes = [
        (leaf.block, edit.part, edit.notice)
        for edit in edits
        for leaf in (reading.leaves[edit.at], *reading.mirrors.get(edit.at, ()))
    ]
    return _block(item, changes)


# ---------------------------------------------------------------- fields


def _field(
    name: str, value: Any, changes: Sequence[tuple[Block, Part | None, str]], removed: Mapping[int | None, str]
) -> Any:
    """A field with its changes made; `GONE` where nothing of it is left."""
    if name == "function_call":
        if removed or any(part is None for _, part, _ in changes):
            return GONE
        return _block({"function": value}, changes)["function"]
    if name not in CONTENT and not (name in CALL_FIELDS and isinstance(value, (list, tuple))):
        return _beside(name, value, changes) if not removed else GONE
    if isinstance(value, str):
        _, part, notice = changes[0] if changes else (None, None, next(iter(removed.values())))
        return part.text if isinstance(part, Text) else notice
    if not isinstance(value, Sequence):
        if removed:
            return GONE
        return _block(value, changes)
    by_index: dict[int | None, list[tuple[Block, Part | None, str]]] = {}
    for change in changes:
        by_index.setdefault(change[0].index, []).append(change)
    items: list[Any] = []
    last_notice: Any = None
    for index, item in enumerate(value):
        if index in removed:
            new = text_like(plain(item), removed[index]) if name in CONTENT and removed[index] else GONE
        elif index in by_index:
            new = _block(item, by_index[index]) if name in CONTENT or _keeps(by_index[index]) else GONE
        else:
            new = item
        if new is GONE or (new is not item and new == last_notice):
            continue  # one notice stands for all that is withheld side by side
        last_notice = new if new is not item else None
        items.append(new)
    return items


def _keeps(changes: Sequence[tuple[Block, Part | None, str]]) -> bool:
    return all(part is not None for _, part, _ in changes)


def _beside(name: str, value: Any, changes: Sequence[tuple[Block, Part | None, str]]) -> Any:
    """A field beside the content goes when something of it is withheld; an artifact goes when anything changes."""
    if not _keeps(changes) or any(block.index == ARTIFACT for block, _, _ in changes):
        return GONE
    new = rebuilt({name: value}, [(block, part) for block, part, _ in changes])
    return new.get(name, GONE) if isinstance(new, Mapping) else GONE


def _block(item: Any, changes: Sequence[tuple[Block, Part | None, str]]) -> Any:
    """One block with its changes made. What is withheld leaves the notice in its place, at the nearest place that may
    hold text.
    """
    made: list[tuple[Block, Part | None]] = []
    for block, part, notice in changes:
        if part is None and block.region == "result" and _names_the_pair(block):
            return text_like(plain(item), notice)
    for block, part, notice in changes:
        if part is not None:
            made.append((block, part))
            continue
        place = _notice_place(block)
        if place is not None:
            made.append((place, Text(notice)))
        elif block.region == "result":
            return _result_notice(plain(item), notice)
        elif any(isinstance(step, int) for step in block.path):
            made.append((block, None))  # an element of a list that holds no blocks, such as a citation
        else:
            return text_like(plain(item), notice)
    new = rebuilt(item, made)
    return text_like(plain(item), changes[0][2]) if new is GONE else new


def _names_the_pair(block: Block) -> bool:
    """Whether a part stands where a result names its call or its tool: nothing there can be kept."""
    names = (*calls.ID_KEYS, *calls.NAME_KEYS)
    return block.form.removeprefix("key:") in names or any(step in names for step in block.path)


def _notice_place(block: Block) -> Block | None:
    """Where a notice may stand for a withheld part: its own text field, or the block of a list that holds it."""
    at = max((at for at, step in enumerate(block.path) if isinstance(step, int)), default=None)
    inner = block.path[at + 1 :] if at is not None else block.path
    if (
        not inner
        and block.form in _TEXT_FIELDS
        and not (block.form == "self" and at is None and block.region == "result")
    ):
        return block
    if at is None:
        return None
    names = [step for step in block.path[:at] if isinstance(step, str)]
    if (names[-1] if names else "content") not in _LISTS_OF_BLOCKS:
        return None
    return Block(block.part, block.index, block.path[: at + 1], "media", block.region)


def _result_notice(item: Any, notice: str) -> Any:
    """A result's block made anew, with the notice as what the tool said. Its names and identifiers alone are kept."""
    if not isinstance(item, Mapping):
        return notice
    wrapper = next((key for key in calls.RESULTS if isinstance(item.get(key), Mapping)), None)
    if wrapper is not None:
        inner = _identified(item[wrapper])
        if wrapper == "toolResult":
            return {wrapper: {**inner, "content": [{"text": notice}]}}
        if wrapper in ("functionResponse", "function_response"):
            return {wrapper: {**inner, "response": {"output": notice}}}
        said = "output" if "output" in item[wrapper] else "result"
        kept = {key: value for key, value in item[wrapper].items() if key == "error" and isinstance(value, bool)}
        return {wrapper: {**inner, **kept, **_origin(item[wrapper]), said: notice}}
    kind = item.get("type")
    if not (isinstance(kind, str) and calls.is_result(kind)):
        return text_like(item, notice)
    new = _identified(item)
    if kind == "shell_call_output":
        outcome = {"type": "exit", "exit_code": 1}
        return {**new, "output": [{"stdout": "", "stderr": notice, "outcome": outcome}]}
    key = "output" if "output" in item else "content"
    valued = isinstance(item.get(key), Mapping) and "value" in item[key]
    return {**new, key: {"type": "text", "value": notice} if valued else notice}


def _identified(holder: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: holder[name] for name in (*calls.ID_KEYS, *calls.NAME_KEYS) if isinstance(holder.get(name), str)}
    switches = {name: holder[name] for name in ("type", "status", "outcome") if str(holder.get(name)) in VALUES}
    return {**switches, **kept}


def _origin(result: Mapping[str, Any]) -> dict[str, Any]:
    """Haystack's result repeats the call that it answers: its name and identifier are kept, its arguments are not."""
    origin = result.get("origin")
    return {"origin": {**_identified(origin), "arguments": {}}} if isinstance(origin, Mapping) else {}
