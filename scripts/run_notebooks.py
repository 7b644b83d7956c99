# SPDX-License-Identifier: Apache-2.0
"""Run the notebooks in docs/notebooks and keep what their cells print; with names, these alone.

Each runs in a folder of its own, which is removed. Times, counters and warnings are left out of what is
kept, so that a notebook changes only with what it shows. Exit code 1 at the first cell that fails.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
_CELL_S = 1200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks, without .ipynb (default: all)")
    names = parser.parse_args().names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        try:
            notebook = run(path)
        except CellExecutionError as error:
            print(f"{path}: {error}")
            return 1
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
        print(path)
    return 0


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells.

    Raises: CellExecutionError for a cell that fails.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=_CELL_S, resources=resources, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _joined([output for output in cell.outputs if output.get("name") != "stderr"])
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = None
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with what was printed in pieces in one."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and joined[-1].output_type == output.output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


if __name__ == "__main__":
    raise SystemExit(main())
