# SPDX-License-Identifier: Apache-2.0
"""The register in front of a memory's address port: words in order, and what its source must not do."""

from __future__ import annotations

import secrets
from pathlib import Path

import e2hls
import pytest
from lockstep import DifferError, run_in_lockstep

REGISTER = (Path(e2hls.__file__).parent / "rtl/e2hls_requests.sv").read_text()
PORTS = """\
module requests (
  input wire clk,
  input wire rst_n,
  input wire [7:0] word,
  input wire [1:0] pauses,
  input wire [1:0] stalls,
  output wire valid,
  output wire [7:0] first,
  output wire two_wait
);
"""
# The source has a word three times in four, and the sink takes one as often.
DRIVEN = """\
  reg [1:0] count;
  wire takes = !stalls[0];
  wire sends = !pauses[0] && (KEEPS || !(count == 2 && !takes));
  wire goes = takes && (count != 0 || sends);
  always_ff @(posedge clk) count <= !rst_n ? 2'd0 : 2'(count + 2'(sends) - 2'(goes));
  assign two_wait = count == 2;
"""
REAL = """\
  wire [7:0] out;
  e2hls_requests #(.Width(8)) register (
    .clk_i(clk), .rst_ni(rst_n), .in_valid_i(sends), .in_data_i(word),
    .out_valid_o(valid), .out_ready_i(takes), .out_data_o(out)
  );
  assign first = valid ? out : 8'd0;
endmodule
"""
# A queue in a memory.
MODEL = """\
  reg [7:0] queue[4];
  reg [1:0] head, tail;
  assign valid = head != tail || sends;
  assign first = !valid ? 8'd0 : head != tail ? queue[head] : word;
  always_ff @(posedge clk) begin
    if (sends) queue[tail] <= word;
    tail <= !rst_n ? 2'd0 : 2'(tail + 2'(sends));
    head <= !rst_n ? 2'd0 : 2'(head + 2'(goes));
  end
endmodule
"""


def module(body: str, *, keeps: bool = True) -> str:
    """A module whose source keeps to the rule, or does not."""
    return PORTS + DRIVEN.replace("KEEPS", "1'b0" if keeps else "1'b1") + body


def test_words_come_in_order_however_the_sink_stalls(tmp_path: Path) -> None:
    seed = secrets.randbelow(1 << 31)
    print(f"seed {seed}")
    real, model = module(REAL) + REGISTER, module(MODEL)
    events = run_in_lockstep(real, model, tmp_path, count="two_wait", cycles=50_000, seed=seed)
    assert 2_000 < events < 48_000  # both places are in use, and often not


def test_a_request_too_many_ends_the_simulation(tmp_path: Path) -> None:
    real = module(REAL, keeps=False) + REGISTER
    with pytest.raises(DifferError, match="a request comes while two wait"):
        run_in_lockstep(
            real, real.replace("e2hls_requests", "others"), tmp_path, count="valid", cycles=999, seed=1
        )
