# SPDX-License-Identifier: Apache-2.0
"""``python -m e2train``."""

from e2train.cli import main

if __name__ == "__main__":
    main()
