# SPDX-License-Identifier: Apache-2.0
"""The C++ accessors of frame fields are those of the table."""

from pathlib import Path

import frame_fields

ROOT = Path(__file__).parents[2]


def test_the_generated_header_is_up_to_date():
    assert frame_fields.TARGET == ROOT / "hls/kernels/frame_fields.hpp"
    assert frame_fields.TARGET.read_text(encoding="utf-8") == frame_fields.text(), (
        "run scripts/frame_fields.py"
    )
