# SPDX-License-Identifier: Apache-2.0
"""The C++ accessors of frame fields are those of the table."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_generated_header_is_up_to_date():
    spec = importlib.util.spec_from_file_location("frame_fields", ROOT / "scripts/frame_fields.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.TARGET == ROOT / "hls/kernels/frame_fields.hpp"
    assert script.TARGET.read_text(encoding="utf-8") == script.text(), "run scripts/frame_fields.py"
