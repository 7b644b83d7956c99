# SPDX-License-Identifier: Apache-2.0
"""The NumPy spec of the engine as a device: slow, and right by definition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2train.config import EngineConfig
from e2train.devices.protocol import Closing, Transfer
from e2train.numerics.frames import run_transfer

__all__ = ["SpecDevice"]


class SpecDevice(Closing):
    """Answers every transfer as ``numerics.frames`` says."""

    name = "spec"
    tries = 1
    parallel = 1

    def __init__(self, config: EngineConfig) -> None:
        self.config = config

    def transfer(self, words: NDArray[np.uint64], *, reply_words: int) -> Transfer:
        """Reply to one transfer, whose last word carries TLAST."""
        return Transfer(reply=run_transfer(words, self.config))
