# SPDX-License-Identifier: Apache-2.0
"""Names in a kernel that are keywords of what it becomes: of Verilog, or of XLS' text."""

from __future__ import annotations

from pathlib import Path

import pytest
import xls
from checked_flow import lower
from e2hls.backend.xls_names import _KEYWORDS, to_xls
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlOptions
from e2hls.base.verilog_keywords import VERILOG_KEYWORDS
from e2hls.pipeline import generate

HEAD = "#include <hls_stream.h>\nusing Words = hls::stream<int>;\n"
TWO = (
    "void {0}(Words& x, Words& y) {{ y.write(x.read() + 1); }}\n"
    "static void next(Words& x, Words& y) {{ y.write(x.read() + 1); }}\n"
    "void {1}(Words& x, Words& y) {{\n  #pragma HLS DATAFLOW\n  Words m;\n  {0}(x, m);\n  next(m, y);\n}}\n"
)


@pytest.mark.parametrize(
    ("body", "top", "want"),
    [
        (
            "void edge(Words& x, Words& y) { y.write(x.read()); }\n",
            "edge",
            "3:1: edge is a keyword of Verilog; rename the function",
        ),
        (TWO.format("join", "small"), "small", "5:1: small is a keyword of Verilog; rename the function"),
        (
            TWO.format("match", "first"),
            "first",
            "3:1: the module of process match would be first_match, a keyword of Verilog; "
            "rename the function",
        ),
    ],
)
def test_a_module_named_like_a_keyword_is_one_line(tmp_path: Path, body: str, top: str, want: str) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(HEAD + body)
    with pytest.raises(HlsError) as raised:
        lower(Kernel(top, source))
    assert str(raised.value) == f"{source}:{want}"


def test_processes_may_be_named_like_keywords(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(HEAD + TWO.format("join", "k"))
    assert [each.name for each in lower(Kernel("k", source)).processes] == ["join", "next"]


def test_ports_named_like_keywords_of_xls_keep_their_names(tmp_path: Path) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(
        HEAD
        + "static void proc(Words& source, Words& reg) { reg.write(source.read() + 1); }\n"
        + "void k(Words& source, Words& output) {\n  #pragma HLS DATAFLOW\n  Words stage;\n"
        + "  proc(source, stage);\n  proc(stage, output);\n}\n"
    )
    design = generate(lower(Kernel("k", source)), RtlOptions(), tmp_path / "rtl")
    assert [port.name for port in design.report.ports] == ["source", "output"]
    text = "".join(path.read_text() for path in design.verilog_files)
    assert "input wire [31:0] source_tdata" in text
    assert ".stage_tdata(stage_r_data)" in text
    assert "hls__" not in text


def parses(channel: str) -> bool:
    text = (
        f"package p\n\nchan {channel}(bits[8], id=0, kind=streaming, ops=send_only, "
        "flow_control=ready_valid)\n\ntop proc p_core(init={}) {\n  tok: token = literal(value=token)\n"
        f"  l: bits[8] = literal(value=1)\n  s: token = send(tok, l, channel={channel})\n}}\n"
    )
    try:
        xls.Package.parse_ir(text)
    except RuntimeError:
        return False
    return True


def test_keywords_are_those_of_the_tools() -> None:
    assert len(VERILOG_KEYWORDS) == 248
    assert not any(parses(name) for name in _KEYWORDS)
    assert all(parses(to_xls(name)) for name in (*_KEYWORDS, *VERILOG_KEYWORDS, "clk", "send", "state"))
