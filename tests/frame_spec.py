# SPDX-License-Identifier: Apache-2.0
"""Resident operations through the executable spec of frames."""

from __future__ import annotations

import numpy as np
from e2train.config import load_config
from e2train.devices import Transfer
from e2train.devices.chains import StreamResident
from e2train.devices.protocol import Closing
from e2train.numerics.frames import run_transfer

__all__ = ["FrameSpec", "frame_spec"]


class FrameSpec(Closing):
    """A stream device that answers as ``numerics.frames`` says."""

    name = "frames"
    tries = 1

    def __init__(self, *, parallel: int = 1) -> None:
        self.config = load_config("pynq_z2")
        self.parallel = parallel

    def transfer(self, words: np.ndarray, *, reply_words: int) -> Transfer:
        return Transfer(reply=run_transfer(words, self.config))


def frame_spec() -> StreamResident:
    """A resident device whose engine is the spec."""
    return StreamResident(FrameSpec())
