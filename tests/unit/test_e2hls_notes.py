# SPDX-License-Identifier: Apache-2.0
"""What a build tells of a kernel though it is no error."""

from pathlib import Path

import pytest
from e2hls.base.kernel import Kernel
from e2hls.build import build_rtl

HEAD = "#include <ap_int.h>\n#include <hls_stream.h>\nusing In = hls::stream<ap_int<16>>;\n"
TOP = 'extern "C" void k(In& x_in, In& y_out) {\n'


def test_notes_on_equal_sources_in_two_folders_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second folder's RTL comes out of the cache."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.hpp").write_text(
            f"// {tmp_path.name}\ninline int part() {{ int unused; return 3; }}\n"
        )
        (tmp_path / name / "k.cpp").write_text(
            f'{HEAD}#include "part.hpp"\n{TOP}\n#pragma HLS LATENCY max=4\n'
            "  y_out.write(x_in.read() + part());\n}\n"
        )
        monkeypatch.chdir(tmp_path / name)
        for source in (Path("k.cpp"), tmp_path / name / "k.cpp"):
            notes = build_rtl(Kernel("k", source)).report.notes
            assert {note.rsplit(": ", 1)[0] for note in notes} == {
                f"{source}:7:1",
                f"{source.parent / 'part.hpp'}:2:25",
            }, notes
