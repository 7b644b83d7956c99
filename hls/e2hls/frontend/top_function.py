# SPDX-License-Identifier: Apache-2.0
"""The functions that a preprocessed source defines, as far as their heads and pragmas tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.pragmas import KEY_VALUE
from e2hls.frontend.translation_unit import LINE_MARKER, TOKEN

__all__ = ["Parameter", "TopFunction", "find_top", "functions"]

_OPENING = {"(": ")", "[": "]", "{": "}"}
_PRAGMA = re.compile(r"#\s*pragma\s+HLS\s+(?P<kind>\w+)(?P<rest>[^\n]*)", re.I)
_NOT_NAMES = frozenset(
    {
        "const",
        "int",
        "unsigned",
        "signed",
        "short",
        "long",
        "char",
        "bool",
        "float",
        "double",
        "volatile",
        "void",
    }
)
# Names for a type of streams.
_ALIAS = re.compile(
    r"\btypedef\b[^;{}]*\bstream\s*<[^;{}]*?\b(\w+)\s*;|\busing\s+(\w+)\s*=[^;{}]*\bstream\s*<"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter as it is written, after the preprocessor."""

    name: str
    text: str
    bounds: tuple[str, ...] = ()  # of one that is written as an array, the outer dimension first
    reference: bool = False
    pointer: bool = False
    stream: bool = False
    constant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TopFunction:
    """A function's definition."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: bool
    loc: Loc
    calls: frozenset[str] = frozenset()
    hidden: bool = False  # static, inline, a template or a member: no top function
    pragmas: tuple[tuple[str, str], ...] = ()  # kind in capitals, what follows
    body: str = ""

    @property
    def only_streams(self) -> bool:
        """Whether streams are its only ports."""
        return not self.returns and all(each.stream for each in self.parameters)

    @property
    def dataflow(self) -> bool:
        """Whether the functions that it calls are processes."""
        return any(kind == "DATAFLOW" for kind, _ in self.pragmas)

    def walks(self, name: str) -> bool:
        """Whether the body steps from what a pointer leads to, to what lies beside it."""
        steps = (
            rf"\b{name}\s*\[\s*(?!0\s*\])",
            rf"(?:^|[^*\s\w])\s*{name}\s*[+-](?!>)",  # what a * stands before is a value
            rf"\b{name}\s*(?:\+\+|--)|(?:\+\+|--)\s*{name}\b",
        )
        return re.search("|".join(steps), self.body) is not None

    def interface(self, port: str) -> dict[str, str]:
        """The options of all INTERFACE pragmas on a port, by lower-case name; its mode as ``mode``."""
        found: dict[str, str] = {}
        for options in self.interfaces(port):
            found |= options
        return found

    def interfaces(self, port: str) -> list[dict[str, str]]:
        """The options of each INTERFACE pragma on a port."""
        found = []
        for kind, rest in self.pragmas:
            options = {name.lower(): value for name, value in KEY_VALUE.findall(rest)}
            if kind != "INTERFACE" or options.get("port") != port:
                continue
            words = KEY_VALUE.sub(" ", rest).split()
            found.append(({"mode": words[0]} if words and "mode" not in options else {}) | options)
        return found


def find_top(text: str, source: Path, name: str | None) -> TopFunction:
    """The top function of a preprocessed source: the one that is named, or else the one that fits best.

    That is the one with the file's name, or the only one that no other function of the file calls.

    Raises: HlsError where there is none, or more than one.
    """
    streams = frozenset(name for names in _ALIAS.findall(text) for name in names if name) | {"stream"}
    every = list(functions(text, streams))
    possible = [each for each in every if not each.hidden and each.name != "main"]
    own = [each for each in possible if Path(each.loc.file).resolve() == source.resolve()]
    if name is not None:
        return _only([each for each in possible if each.name == name], own, source, name)
    called = {callee for each in every if each.name != "main" for callee in each.calls - {each.name}}
    named = [each for each in own if each.name == source.stem]
    free = [each for each in own if each.name not in called]
    return _only(named or free, own, source, None)


def _only(
    found: Sequence[TopFunction], own: Sequence[TopFunction], source: Path, name: str | None
) -> TopFunction:
    if len(found) == 1:
        return found[0]
    names = ", ".join(dict.fromkeys(each.name for each in (own if name is not None or not found else found)))
    if name is None:
        what = "several functions that can be the top" if found else "no function that can be the top"
        raise HlsError(f"{source}: {what}{f': {names}; name one of them by --top' if names else ''}")
    if found:
        raise HlsError(
            f"several functions are named {name}; rename all but the one that is to be the top", found[1].loc
        )
    raise HlsError(f"{source}: there is no function {name}; it defines {names or 'none'}")


@dataclass(slots=True)
class _Scope:
    """An open bracket: what it closes with, and whether definitions may stand in it."""

    closing: str
    outer: bool
    function: TopFunction | None = None
    start: int = 0


def functions(text: str, streams: frozenset[str] = frozenset({"stream"})) -> Iterator[TopFunction]:
    """The functions that are defined at the outermost level or in a linkage block, in order.

    ``streams`` are names in the type of a stream.
    """
    scopes: list[_Scope] = []
    head: list[re.Match[str]] = []  # the statement so far, at the outermost level
    place, base = Loc("", 1), 0
    for token in TOKEN.finditer(text):
        if token["directive"]:
            moved = LINE_MARKER.match(token["directive"])
            if moved:
                place, base = Loc(re.sub(r"\\(.)", r"\1", moved["file"]), int(moved["line"])), token.end()
            continue
        word = token[0]
        outer = all(scope.outer for scope in scopes)
        if scopes and word == scopes[-1].closing:
            closed = scopes.pop()
            if closed.function is not None:
                yield _with_body(closed.function, text[closed.start : token.start()])
            if word == "}" and all(scope.outer for scope in scopes):
                head = []
                continue
        elif word in _OPENING:
            scope = _Scope(_OPENING[word], outer=False, start=token.end())
            if outer and word == "{":
                line = place.line + text.count("\n", base, token.start()) - 1
                scope.function = _defined([each[0] for each in head], Loc(place.file, line, 1), streams)
                scope.outer = scope.function is None and _is_linkage([each[0] for each in head])
                head = [] if scope.outer else head
            inside = any(each.closing == "}" and not each.outer for each in scopes)
            scopes.append(scope)
            if word == "{":
                head += [] if outer or inside else [token]  # of a default argument
                continue
        if outer and word == ";":
            head = []
        elif not any(scope.closing == "}" and not scope.outer for scope in scopes):
            head.append(token)


def _is_linkage(head: Sequence[str]) -> bool:
    return list(head) == ["extern", '"C"'] or list(head) == ["extern", '"C++"']


def _defined(head: Sequence[str], loc: Loc, streams: frozenset[str]) -> TopFunction | None:
    """The function whose body comes after these words; None where they are of something else."""
    groups = list(_groups(head))
    plain = [word for at, word in enumerate(head) if not any(start < at < end for start, end in groups)]
    if not groups or "=" in plain or {"struct", "class", "union", "enum"} & set(head[:1]):
        return None
    at = next((i for i, (start, _) in enumerate(groups) if re.match(r"[^\W\d]", head[start - 1])), None)
    while at is not None and head[groups[at][0] - 1] in (
        "__attribute__",
        "alignas",
        "decltype",
        "__declspec",
    ):
        at = at + 1 if at + 1 < len(groups) else None
    if at is None or groups[at][0] == 0:
        return None
    start, end = groups[at]
    before = head[: start - 1]
    hidden = {"static", "inline", "template", "operator"} & set(before) or (before and before[-1] == "::")
    return TopFunction(
        name=head[start - 1],
        parameters=() if hidden else tuple(_parameters(head[start + 1 : end], head[start - 1], loc, streams)),
        returns="void" not in before,
        loc=loc,
        hidden=bool(hidden),
    )


def _groups(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where parentheses open and close, those within others left out."""
    depth, start = 0, 0
    for at, word in enumerate(words):
        if word == "(":
            start = start if depth else at
            depth += 1
        elif word == ")":
            depth -= 1
            if depth == 0:
                yield start, at


def _parameters(
    words: Sequence[str], function: str, loc: Loc, streams: frozenset[str]
) -> Iterator[Parameter]:
    parts = [part for part in _split(words) if part and part != ["void"]]
    for number, part in enumerate(parts, 1):
        written = part[: part.index("=")] if "=" in part else part
        bracket = written.index("[") if "[" in written else len(written)
        names = [word for word in written[:bracket] if re.match(r"[^\W\d]\w*$", word)]
        name = names[-1] if names else ""
        last = next((word for word in reversed(written[:bracket]) if word not in (")", "(")), "")
        if not name or name != last or len(written[:bracket]) < 2 or name in _NOT_NAMES:
            raise HlsError(f"parameter {number} of {function} has no name; give it one", loc)
        bounds = tuple(_bracketed(written[bracket:])) if "(" not in written[:bracket] else ()
        yield Parameter(
            name=name,
            text=" ".join(written),
            bounds=bounds if all(bounds) else (),
            reference="&" in written[:bracket],
            pointer="*" in written[:bracket] or not all(bounds),
            stream=not streams.isdisjoint(written[:-1]),
            constant="const" in written[: next((i for i, word in enumerate(written) if word in "*&["), None)],
        )


def _bracketed(words: Sequence[str]) -> Iterator[str]:
    """The words in each pair of brackets."""
    depth, start = 0, 0
    for at, word in enumerate(words):
        start = at + 1 if word == "[" and depth == 0 else start
        depth += {"[": 1, "]": -1}.get(word, 0)
        if word == "]" and depth == 0:
            yield " ".join(words[start:at])


def _split(words: Sequence[str]) -> list[list[str]]:
    """The words between commas that stand in no bracket."""
    parts: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += {"<": 1, "(": 1, "[": 1, "{": 1, ">": -1, ")": -1, "]": -1, "}": -1}.get(word, 0)
        if word == "," and depth == 0:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _with_body(function: TopFunction, body: str) -> TopFunction:
    """The function with the names that it calls, and its pragmas."""
    plain = _PRAGMA.sub("", body)
    return TopFunction(
        name=function.name,
        parameters=function.parameters,
        returns=function.returns,
        loc=function.loc,
        hidden=function.hidden,
        calls=frozenset(re.findall(r"([^\W\d]\w*)\s*(?:<[^;(){}]*>\s*)?\(", plain)),
        pragmas=tuple((each["kind"].upper(), each["rest"].strip()) for each in _PRAGMA.finditer(body)),
        body=plain,
    )
