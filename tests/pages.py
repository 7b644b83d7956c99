# SPDX-License-Identifier: Apache-2.0
"""README and the pages of the documentation, cut into the blocks that tests run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PATHS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
FOLDERS = {path.name: path.parent for path in _PATHS}
PAGES = {path.name: path.read_text(encoding="utf-8") for path in _PATHS}
# Why a block is not run; what is left out for its time has a test of its own.
REASONS = (
    "changes the environment",
    "needs Vivado",
    "needs a GPU",
    "needs a board",
    "needs a sensor",
    "takes hours",
    "takes minutes",
)
_BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?://|#) (\w+\.(?:cpp|py))\n")
# Languages whose blocks tests run: a kernel is compiled, a configuration is loaded; text is what is printed.
LANGUAGES = ("bash", "cpp", "python", "text", "toml")
_COMMAND = re.compile(r"\$ |%|>>> |e2train |make |pip |python ")
_FENCE = re.compile(r"[ \t>*+-]*(`{3,}|~{3,})")
_SPAN = re.compile(r"(?<!`)`(e2train [^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block, and the comment on the line before it."""

    language: str
    text: str
    comment: str = ""

    @property
    def reason(self) -> str | None:
        """Why it is not run, or None."""
        head, _, reason = self.comment.partition(": ")
        return reason if head == "not run" else None

    @property
    def file(self) -> str | None:
        """The name of the file that it is, or None."""
        named = _FILE.match(self.text)
        return named[1] if named else None

    @property
    def background(self) -> bool:
        """Whether it runs on beside the blocks after it."""
        return self.comment == "background"

    @property
    def commands(self) -> list[str]:
        """The lines of a shell's block."""
        return [line for line in self.text.splitlines() if line]


def blocks(page: str, *languages: str) -> list[Block]:
    """The blocks of a page in order, in some languages or in all."""
    return [block for block in _blocks(PAGES[page]) if not languages or block.language in languages]


def _blocks(text: str) -> list[Block]:
    return [
        Block(language=language, text=content, comment=comment)
        for comment, language, content in _BLOCK.findall(text)
    ]


def untested(text: str) -> list[str]:
    """Lines with which code begins in a page that no test would run, since it is written in another way."""
    opening = {f"```{language}" for language in LANGUAGES}
    found, fence, before = [], "", ""
    for line in text.splitlines():
        marker = _FENCE.match(line)
        if fence:
            fence = "" if line.strip() == fence else fence
        elif marker:
            fence = marker[1]
            found += [] if line in opening else [line]
        elif (re.match(r"(\t| {4,})\S", line) and not before.strip()) or re.search(r"<(pre|code)\b", line):
            found.append(line)
        before = line
    if fence:
        found.append(f"{fence} without an end")
    for block in _blocks(text):
        nameless = block.language == "cpp" and not _FILE.match(block.text)
        if nameless or (block.language == "text" and _COMMAND.match(block.text)):
            found.append(block.text.partition("\n")[0])
    return found


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of the same level."""
    level = heading.partition(" ")[0]
    return PAGES[page].partition(f"{heading}\n")[2].partition(f"\n{level} ")[0]


def spans(page: str) -> list[str]:
    """Commands of e2train within the text; one that ends in dots goes on with what a reader has."""
    return [span.replace("...", "") for span in _SPAN.findall(PAGES[page])]


def write_sources(page: str, folder: Path) -> bool:
    """Write the kernels and scripts that a page shows into a folder; whether there are any."""
    found = [block for block in blocks(page, "cpp", "python") if block.file]
    for block in found:
        (folder / str(block.file)).write_text(block.text, encoding="utf-8")
    return bool(found)
