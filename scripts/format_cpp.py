# SPDX-License-Identifier: Apache-2.0
"""clang-format that leaves ``#pragma`` lines alone, which it would move to the left and pad with spaces."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

CLANG_FORMAT = Path(sys.executable).parent / "clang-format"


def formatted(path: Path) -> str:
    """The file's text in the house format."""
    text = path.read_text()
    done = subprocess.run([CLANG_FORMAT, path], capture_output=True, text=True, check=True)
    pragmas = iter([line for line in text.splitlines() if line.lstrip().startswith("#pragma")])
    lines = [
        next(pragmas) if line.lstrip().startswith("#pragma") else line for line in done.stdout.splitlines()
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Rewrite the files, or with --check name those that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a file differs")
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    differing = [path for path in options.files if formatted(path) != path.read_text()]
    for path in differing:
        if options.check:
            print(f"{path}: not in the house format; run make format", file=sys.stderr)
        else:
            path.write_text(formatted(path))
    return int(options.check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
