# SPDX-License-Identifier: Apache-2.0
"""The frames that command the engine: layout, header and executable spec; see docs/engine_frames.md."""

from e2train.numerics.frames.header import FrameError, Header, Level, check_sums, decode_header, encode_header
from e2train.numerics.frames.layout import KIND_DTYPES, Kind, Mode, Status
from e2train.numerics.frames.trailer import Trailer, decode_trailer, encode_trailer
from e2train.numerics.frames.transfer import run_transfer

__all__ = [
    "KIND_DTYPES",
    "FrameError",
    "Header",
    "Kind",
    "Level",
    "Mode",
    "Status",
    "Trailer",
    "check_sums",
    "decode_header",
    "decode_trailer",
    "encode_header",
    "encode_trailer",
    "run_transfer",
]
