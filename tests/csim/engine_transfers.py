# SPDX-License-Identifier: Apache-2.0
"""Transfers for the engine by name: the ones that its bench draws."""

from collections.abc import Iterator

import numpy as np
from e2train.config import EngineConfig
from engine_cases import MODES, Cases
from numpy.typing import NDArray


def transfers(
    rng: np.random.Generator, config: EngineConfig, *, random: int
) -> Iterator[tuple[str, NDArray[np.uint64]]]:
    """Every kind of transfer: corners, random ones, full buffers, many frames, all faults."""
    draw = Cases(rng, config)
    yield "identify", draw.identify()
    for mode in MODES:
        yield from ((f"{mode} corner {i}", words) for i, words in enumerate(draw.corners(mode)))
        yield from ((f"{mode} random {i}", words) for i, words in enumerate(draw.random(mode, random)))
        yield f"{mode} full buffers", draw.full_buffers(mode)
    yield from ((f"many frames {i}", draw.many_frames()) for i in range(random))
    yield from ((f"held reports {i}", draw.held_reports()) for i in range(random))
    yield from draw.faults()
