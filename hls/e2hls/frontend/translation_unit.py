# SPDX-License-Identifier: Apache-2.0
"""Puts the markers of ``#pragma HLS`` into a preprocessed translation unit.

After the preprocessor, a pragma from ``_Pragma`` or a macro looks like any other, comments are gone, and each
line still knows its file. What a marker must look like follows from the tokens before it.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.pragmas import marker, note

__all__ = ["LINE_MARKER", "TOKEN", "TranslationUnit", "place_markers"]

TOKEN = re.compile(
    r"""
      ^[ \t]*(?P<directive>\#[^\n]*)
    | (?P<raw>(?:u8|[uUL])?R"(?P<delimiter>[^()\\\s]{0,16})\((?s:.*?)\)(?P=delimiter)")
    | (?P<text>(?:u8|[uUL])?(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
    | (?P<number>\.?\d(?:'?[\w.]|(?<=[eEpP])[+-])*)
    | (?P<word>[^\W\d]\w*)
    | (?P<sign>::|\S)
    """,
    re.M | re.X,
)
LINE_MARKER = re.compile(r'# (?P<line>\d+) "(?P<file>(?:[^"\\]|\\.)*)"')
_PRAGMA = re.compile(r"#\s*pragma\s+HLS\b(?P<rest>.*)", re.I)
_WRITTEN = re.compile(r"#\s*pragma\b|\b_Pragma\b|\S")
_CLOSING = {")": "(", "]": "[", "}": "{"}
_HEADERS = ("for", "while", "if", "constexpr", "switch")  # what stands before the parenthesis of a header
_LOOPS = ("for", "while", "do")
_MISPLACED = "cannot stand here; put it first in the body of the loop or function that it is for"
# How clang complains of a statement where there can be none.
_GRAMMAR = re.compile(r"expected |unexpected |a type specifier is required|C\+\+ requires|unknown type name")


@dataclass(slots=True)
class TranslationUnit:
    """The text to compile, the files it came from, the labels of its loops and where its pragmas stood."""

    text: str = ""
    files: dict[str, None] = field(default_factory=dict)
    labels: dict[tuple[str, int], str] = field(default_factory=dict)  # (file, line of the loop) -> its label
    pragmas: dict[tuple[str, int], Loc] = field(default_factory=dict)  # (file, line) -> place
    notes: list[str] = field(default_factory=list)  # what a user is to know though it is no error

    def written(self, loc: Loc | None) -> Loc | None:
        """Location of the pragma that became the code at ``loc``."""
        return self.pragmas.get((loc.file, loc.line), loc) if loc else None

    def explain(self, error: HlsError) -> HlsError:
        """A compiler's error in the words of the pragma that it comes from, if it comes from one."""
        loc = self.written(error.loc)
        if loc is error.loc:
            return error
        return HlsError(
            f"this pragma {_MISPLACED}" if _GRAMMAR.match(error.message) else f"pragma HLS: {error.message}",
            loc,
        )


def place_markers(text: str) -> TranslationUnit:
    """Replace every ``#pragma HLS`` of preprocessed C++ by the marker calls that it stands for.

    Raises: HlsError for a pragma that this flow does not take, or where no statement can stand.
    """
    unit = TranslationUnit()
    scan = _Scan()
    parts, end = [], 0
    for token, at in _with_places(text, unit):
        pragma = _PRAGMA.match(token["directive"] or "")
        if pragma is None:
            if token["directive"] is None:
                scan.take(token, at, unit)
            continue
        loc = Loc(at.file, at.line, _column(at))
        calls = marker(pragma["rest"], loc)
        if said := note(pragma["rest"]):
            unit.notes.append(f"{loc}: {said}")
        parts.append(text[end : token.start()])
        end = token.end()
        if calls:
            unit.pragmas[at.file, at.line] = loc
            parts.append(" " * (loc.column - 1) + scan.statement(calls, _next_word(text, end), loc))
    unit.text = "".join([*parts, text[end:]])
    return unit


def _with_places(text: str, unit: TranslationUnit) -> Iterator[tuple[re.Match[str], Loc]]:
    """All tokens, each with its line; line markers only move the place."""
    file, line, seen = "", 1, 0
    for token in TOKEN.finditer(text):
        line, seen = line + text.count("\n", seen, token.start()), token.start()
        moved = LINE_MARKER.match(token["directive"] or "")
        if moved is None:
            yield token, Loc(file, line, 0)
            continue
        file = re.sub(r"\\(.)", r"\1", moved["file"])
        line = int(moved["line"]) - 1  # it names the line that follows
        unit.files[file] = None


def _column(at: Loc) -> int:
    """Column of the pragma in the source line."""
    written = _WRITTEN.search(linecache.getline(at.file, at.line))
    return written.start() + 1 if written else 1


def _next_word(text: str, start: int) -> str:
    """The first token from ``start`` on that is no directive."""
    return next((token[0] for token in TOKEN.finditer(text, start) if token["directive"] is None), "")


class _Scan:
    """What the tokens so far say of the place that follows them."""

    def __init__(self) -> None:
        self._last = [""] * 3  # the tokens before this place
        self._open: list[tuple[str, str]] = []  # brackets, each with the token before it
        self._closed = ""  # the token before the bracket that was closed last

    def take(self, token: re.Match[str], at: Loc, unit: TranslationUnit) -> None:
        """Go on by one token."""
        word = token[0]
        if word in ("(", "[", "{"):
            self._open.append((word, self._last[-1]))
        elif word in _CLOSING and self._open and self._open[-1][0] == _CLOSING[word]:
            self._closed = self._open.pop()[1]
        elif (
            word in _LOOPS
            and self._last[-1] == ":"
            and self._last[0] in ("{", "}", ";", ")", ":", "else", "do")
        ):
            unit.labels[at.file, at.line] = self._last[1]
        self._last = [*self._last[1:], word]

    def statement(self, calls: str, following: str, loc: Loc) -> str:
        """The calls as a statement, or as the beginning of the statement that follows.

        Raises: HlsError where there can be neither.
        """
        before = self._last[-1]
        if self._open and self._open[-1][0] == "{" and following != "else":
            if before in ("{", "}", ";"):
                return f"{calls};"
            # The body of a loop or branch, or what a label names, is one statement and remains one.
            if before in ("else", "do", ":") or (before == ")" and self._closed in _HEADERS):
                return f"if ({calls}; false) {{}} else"
        raise HlsError(f"this pragma {_MISPLACED}", loc)
