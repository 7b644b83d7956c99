# SPDX-License-Identifier: Apache-2.0
"""Tensors to the engine's words and back."""

from e2train.packing.frames import Frame, Reply, ReplyError, join_transfer, split_replies, with_nonces
from e2train.packing.lanes import channels_first, channels_last, gradient_from_lanes, weight_rows

__all__ = [
    "Frame",
    "Reply",
    "ReplyError",
    "channels_first",
    "channels_last",
    "gradient_from_lanes",
    "join_transfer",
    "split_replies",
    "weight_rows",
    "with_nonces",
]
