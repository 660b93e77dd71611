"""YAML text → plain values, with the line of each.

YAML 1.2 (so `no` is a language, not `false`), no duplicate keys, no tags, no anchors, and every mistake with its line.
The text is composed to a node graph and read from there: nothing is ever constructed from a tag, and nothing can
expand.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from turnguard.core.errors import ConfigError
from turnguard.core.policy import Origin
from turnguard.core.validate import Problem

if TYPE_CHECKING:
    from ruamel.yaml.nodes import Node

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 32

Path = tuple["str | int", ...]
"""Where a value stands: keys and indexes from the top."""


def read_yaml(text: str, source: str) -> tuple[dict[str, Any], dict[Path, int]]:
    """The document's values, and the line of each path. `source` is the file's name. Raises `ConfigError`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{source}: the file is larger than {MAX_CHARACTERS} characters")
    _refuse_deep(text, source)
    yaml = YAML(typ="rt", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an anchor that is given twice: every anchor is refused below
            nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = (error.problem or error.context or "it cannot be read").splitlines()[0]
        raise ConfigError(f"{source}{line}: not valid YAML: {problem}") from None
    except (
        YAMLError,
        RecursionError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        OverflowError,
    ) as error:
        # the scanner itself trips over some malformed input; whatever it raises, the file is not valid YAML
        raise ConfigError(f"{source}: not valid YAML ({type(error).__name__})") from None
    nodes = [node for node in nodes if node is not None]
    if not nodes:
        raise ConfigError(f"{source}: the file is empty; an empty policy still needs 'policy: {{}}'")
    if len(nodes) > 1:
        raise ConfigError(f"{source}:{nodes[1].start_mark.line + 1}: one document is expected, this is a second one")
    reader = _Reader(source, yaml)
    data = reader.value(nodes[0], ())
    if data is None:
        raise ConfigError(f"{source}: the file is empty; an empty policy still needs 'policy: {{}}'")
    if not isinstance(data, dict):
        raise ConfigError(
            f"{source}: expected a mapping with keys such as moderator and policy, not {type(data).__name__}"
        )
    return data, reader.lines


def _refuse_deep(text: str, source: str) -> None:
    """Nesting that no policy needs, refused before a recursive parser meets it."""
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        depth += line.count("[") + line.count("{") - line.count("]") - line.count("}")
        if depth > MAX_DEPTH or (len(line) - len(line.lstrip(" -")) > 4 * MAX_DEPTH):
            raise ConfigError(f"{source}:{number}: nested too deeply")


class _Reader:
    """Plain values out of composed nodes, with the line of each path."""

    def __init__(self, source: str, yaml: Any) -> None:
        self.source = source
        self.constructor = yaml.constructor
        self.lines: dict[Path, int] = {}
        self.seen: set[int] = set()

    def value(self, node: Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if id(node) in self.seen or node.anchor:
            raise ConfigError(f"{self.source}:{line}: anchors and aliases are not supported; write the value out")
        self.seen.add(id(node))
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"{self.source}:{line}: nested too deeply")
        kind = type(node).__name__
        tag = str(node.tag)
        if kind == "ScalarNode":
            return self._scalar(node, tag, line)
        if kind == "SequenceNode" and tag == "tag:yaml.org,2002:seq":
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        if kind == "MappingNode" and tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        raise ConfigError(f"{self.source}:{line}: the tag {tag!r} is not supported: the policy is data, not code")

    def _mapping(self, node: Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if type(key_node).__name__ != "ScalarNode":
                raise ConfigError(f"{self.source}:{line}: a key must be text")
            key = str(key_node.value)
            if key in result:
                raise ConfigError(f"{self.source}:{line}: {'.'.join(map(str, (*path, key)))}: the key is given twice")
            if key_node.anchor:
                raise ConfigError(f"{self.source}:{line}: anchors and aliases are not supported; write the value out")
            at: Path = (*path, key)
            self.lines[at] = line
            result[key] = self.value(value_node, at)
        return result

    def _scalar(self, node: Node, tag: str, line: int) -> Any:
        text: str = node.value
        if tag == "tag:yaml.org,2002:null":
            return None
        if tag == "tag:yaml.org,2002:bool":
            return text.lower() == "true"
        if tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            number = _number(text)
            return text if number is None else number
        if tag in (
            "tag:yaml.org,2002:str",
            "tag:yaml.org,2002:timestamp",
            "tag:yaml.org,2002:merge",
            "tag:yaml.org,2002:value",
        ):
            return text
        raise ConfigError(f"{self.source}:{line}: the tag {tag!r} is not supported: the policy is data, not code")


def _number(text: str) -> int | float | None:
    """YAML 1.2 core numbers; anything longer than a policy needs stays text, and fails where a number is expected."""
    plain = text.replace("_", "")
    if len(plain) > 32:
        return None
    for read_as in (lambda: int(plain, 10), lambda: int(plain, 0), lambda: float(plain)):
        try:
            return read_as()
        except ValueError:
            continue
    return None


def origin(text: str, source: str, lines: Mapping[Path, int]) -> Origin:
    """Where the rules under `policy:` of a file were written. The other sections, which hold secrets, are left out."""
    first, own = _section("policy", text, lines)
    paths = {".".join(map(str, path)): line for path, line in lines.items() if path[:1] == ("policy",)}
    return Origin(source, own, first, paths)


def _section(name: str, text: str, lines: Mapping[Path, int]) -> tuple[int, str]:
    """The first line and the text of one top-level section, without comments that follow it; (0, "") where it
    has no lines of its own.
    """
    first = lines.get((name,))
    starts = sorted(line for path, line in lines.items() if len(path) == 1)
    if first is None or starts.count(first) > 1:
        return 0, ""
    rest = text.splitlines()[first - 1 :]
    if rest[0].lstrip("'\"")[: len(name)] != name:
        return 0, ""  # in braces: what stands beside it may be a secret
    after = starts[starts.index(first) + 1 :]
    own = rest[: after[0] - first] if after else rest
    while own and (not own[-1].strip() or own[-1].startswith(("#", "...", "---"))):
        own.pop()
    return first, "\n".join(own) + "\n"


def located(problem: Problem, source: str, lines: Mapping[Path, int]) -> str:
    """The sentence about a mistake, with the file and the line of the nearest key that stands there."""
    path = problem.path
    while path and path not in lines:
        path = path[:-1]
    line = lines.get(path)
    return f"{source}{f':{line}' if line else ''}: {problem.where}: {problem.message}"
