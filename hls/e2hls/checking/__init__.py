# SPDX-License-Identifier: Apache-2.0
"""A kernel's RTL against its native build: wrappers, stimuli and the comparison."""

from e2hls.checking.compare import Difference, compare
from e2hls.checking.native_side import Reference, reference
from e2hls.checking.stimuli import Stimuli, read_stimuli
from e2hls.checking.wrapper import Wrapped, wrap

__all__ = ["Difference", "Reference", "Stimuli", "Wrapped", "compare", "read_stimuli", "reference", "wrap"]
