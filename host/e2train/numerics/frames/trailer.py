# SPDX-License-Identifier: Apache-2.0
"""The last words of a reply."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from e2train.numerics.frames.header import check_sums
from e2train.numerics.frames.layout import REPLY_MAGIC, TRAILER_FIELDS, VERSION, Words, pack, unpack

__all__ = ["Trailer", "decode_trailer", "encode_trailer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trailer:
    """What the engine says of a frame, behind results and sums."""

    status: int
    nonce: int
    iterations: int = 0
    saturations: int = 0
    words_in: int = 0
    words_out: int = 0
    largest: int = 0
    read: int = 0
    written_s1: int = 0
    written_s2: int = 0
    magic: int = REPLY_MAGIC
    version: int = VERSION


def encode_trailer(trailer: Trailer, sides: Words) -> Words:
    """The trailer behind these sums, its check words last."""
    words = pack(TRAILER_FIELDS[:-2], asdict(trailer))
    checked = np.concatenate([sides, np.array(words, np.uint64)])
    return np.concatenate([checked[sides.size :], np.array(check_sums(checked), np.uint64)])


def decode_trailer(words: Words) -> Trailer:
    """The fields of a trailer, unchecked."""
    values = unpack(TRAILER_FIELDS, [int(word) for word in words])
    return Trailer(**{name: value for name, value in values.items() if not name.startswith("check")})
