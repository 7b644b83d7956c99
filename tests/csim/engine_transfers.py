# SPDX-License-Identifier: Apache-2.0
"""Transfers for the engine by name: the ones that its bench draws."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from e2train.config import EngineConfig
from numpy.typing import NDArray

_PATH = Path(__file__).parents[2] / "sim" / "benches" / "engine_cases.py"


def load_cases() -> ModuleType:
    """The bench's generators, which lie in no package."""
    spec = importlib.util.spec_from_file_location("engine_cases", _PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def transfers(
    rng: np.random.Generator, config: EngineConfig, *, random: int
) -> Iterator[tuple[str, NDArray[np.uint64]]]:
    """Every kind of transfer: corners, random ones, full buffers, many frames, all faults."""
    cases = load_cases()
    draw = cases.Cases(rng, config)
    yield "identify", draw.identify()
    for mode in cases.MODES:
        yield from ((f"{mode} corner {i}", words) for i, words in enumerate(draw.corners(mode)))
        yield from ((f"{mode} random {i}", words) for i, words in enumerate(draw.random(mode, random)))
        yield f"{mode} full buffers", draw.full_buffers(mode)
    yield from ((f"many frames {i}", draw.many_frames()) for i in range(random))
    yield from draw.faults()
