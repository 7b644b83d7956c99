# SPDX-License-Identifier: Apache-2.0
"""How many zeros a convolution puts around its input, by its settings of now."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.utils import _pair

__all__ = ["zeros_around"]


def zeros_around(conv: nn.Conv2d) -> tuple[int, int, int, int]:
    """Left, right, top, bottom, of one whose padding mode is zeros.

    >>> conv = nn.Conv2d(3, 8, (2, 3), padding="same")
    >>> zeros_around(conv)
    (1, 1, 0, 1)
    >>> conv.padding = (2, 0)
    >>> zeros_around(conv)
    (0, 0, 2, 2)
    """
    if isinstance(conv.padding, str):
        both = []
        for kernel, dilation in zip(_pair(conv.kernel_size), _pair(conv.dilation), strict=True):
            total = dilation * (kernel - 1) if conv.padding == "same" else 0
            both.append((total // 2, total - total // 2))
        rows, columns = both
    else:
        rows, columns = ((each, each) for each in _pair(conv.padding))
    return (*columns, *rows)
