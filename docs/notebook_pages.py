# SPDX-License-Identifier: Apache-2.0
"""Hook of mkdocs: notebooks become pages, with what their cells printed and drew when they last ran."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["markdown_of", "on_files", "on_page_markdown"]

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LINK = re.compile(r"(\]\((?:notebooks/)?\w+)\.ipynb\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, which itself is there to be downloaded."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path = Path(file.src_uri)
        text = markdown_of(json.loads(file.content_string)) + f"\n\n[Download]({path.name}#) this notebook.\n"
        files.append(File.generated(config, str(path.with_suffix(".md")), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to notebooks lead to their pages."""
    return _LINK.sub(r"\1.md)", markdown)


def markdown_of(notebook: dict[str, Any]) -> str:
    """Text cells as they are, code cells fenced, behind each its outputs."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _parts(cell))


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/svg+xml" in data:
            image = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
            yield f"![](data:image/svg+xml;base64,{image})"
        elif "image/png" in data:
            yield f"![](data:image/png;base64,{''.join(data['image/png']).strip()})"
        else:
            text = "".join(output.get("text") or data.get("text/plain", ""))
            yield f"```text\n{_COLOURS.sub('', text).rstrip()}\n```"
