# SPDX-License-Identifier: Apache-2.0
"""What a report shows, read out of its page."""

from __future__ import annotations

from html.parser import HTMLParser

__all__ = ["charts"]


class _Charts(HTMLParser):
    """Headings of the figures that hold a chart."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._heading = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "h3"):
            self._heading = ""
        elif tag == "svg":
            assert "figure" in self._open, f"a chart outside a figure, after {self._heading!r}"
            self.found.append(self._heading)
        if tag in ("h2", "h3", "figure"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "h3", "figure"):
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h2", "h3"):
            self._heading += data


def charts(page: str) -> list[str]:
    """The headings under which a page has charts, in order."""
    parser = _Charts()
    parser.feed(page)
    return parser.found
