# SPDX-License-Identifier: Apache-2.0
"""Docstrings as Markdown for the API reference: examples become code blocks, notes paragraphs."""

from __future__ import annotations

import re

from griffe import Extension, Object

_NOTE = re.compile(r"^(Raises|Returns|Shapes|Source|Units): ", re.MULTILINE)


class Markdown(Extension):
    """Rewrites the docstring of every object that the reference shows."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """The text with its examples fenced and each note a paragraph with a bold head.

    >>> print(as_markdown('Twice.\\n\\nRaises: ValueError.\\n>>> 2 * 3\\n6'))
    Twice.
    <BLANKLINE>
    **Raises:** ValueError.
    <BLANKLINE>
    ```pycon
    >>> 2 * 3
    6
    ```
    """
    lines: list[str] = []
    inside = False
    for line in _NOTE.sub(r"\n**\1:** ", text).splitlines():
        if not inside and line.startswith(">>> "):
            lines += ["", "```pycon"]
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*lines, "```"] if inside else lines))
