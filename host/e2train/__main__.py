# SPDX-License-Identifier: Apache-2.0
"""The command ``e2train``, also as ``python -m e2train``."""

from __future__ import annotations

import sys

from e2train.config.extras import install_command, is_extra

__all__ = ["main"]

_AGENT = ["board", "agent"]  # runs on boards, where the other commands' packages cannot be installed


def main() -> None:
    """Run the command line."""
    if sys.argv[1:3] == _AGENT:
        from e2train.cli.agent import main as agent

        sys.exit(agent(sys.argv[3:]))
    try:
        from e2train.cli.app import main as everything

        everything()
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not is_extra(module):  # a fault of e2train itself
            raise
        sys.stderr.write(f"e2train: this needs {module}; {install_command(module)}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
