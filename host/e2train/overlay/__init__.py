# SPDX-License-Identifier: Apache-2.0
"""Overlays: what is around the engine on a board, and the files that carry it."""

from e2train.overlay.archive import OverlaySet, read_overlay, simulated_overlay, write_overlay
from e2train.overlay.description import BITSTREAMS, BoardDescription, board_names, load_board
from e2train.overlay.manifest import ENGINE, Manifest, OverlayError

__all__ = [
    "BITSTREAMS",
    "ENGINE",
    "BoardDescription",
    "Manifest",
    "OverlayError",
    "OverlaySet",
    "board_names",
    "load_board",
    "read_overlay",
    "simulated_overlay",
    "write_overlay",
]
