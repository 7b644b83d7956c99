# SPDX-License-Identifier: Apache-2.0
"""Each loop's interval: what it asks for, what it takes by itself, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.errors import ScheduleError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import ProcessReport, RtlOptions
from e2hls.pipeline import generate

KERNELS = Path(__file__).parents[1] / "rtl" / "kernels"
# A loop that asks for what it gets, and one that asks for COPY and WORDS; the second one has BODY.
KERNEL = """\
#include <ap_int.h>
#include <hls_stream.h>
extern "C" void k(hls::stream<ap_uint<12>>& x_in, hls::stream<ap_uint<32>>& y_out) {
  static ap_uint<32> a[16], b[16];
copy:
  for (int i = 0; i < 16; ++i) {
    #pragma HLS PIPELINE II=1
    y_out.write(x_in.read());
  }
words:
  for (int i = 0; i < 64; ++i) {
    WORDS
    const ap_uint<12> word = x_in.read();
    const ap_uint<4> x = word, y = word >> 4, z = word >> 8;
    BODY
  }
}
"""
UPDATE = "a[x] += word;"
THREE = "a[x] = a[x] + a[y] + a[z]; y_out.write(word);"
LINKS = "const ap_uint<4> v = a[x], w = b[v]; a[x] = w + 1; b[x] = v + i; y_out.write(v + w);"
ALONE = KERNEL.partition("copy:")[0] + "words:" + KERNEL.partition("words:")[2]


def built(folder: Path, text: str, words: int | None, body: str) -> tuple[ProcessReport, ...]:
    """``words`` is what the second loop asks for: 0 without a number, None without a pragma."""
    pragma = {None: "", 0: "#pragma HLS PIPELINE"}.get(words, f"#pragma HLS PIPELINE II={words}")
    (folder / "k.cpp").write_text(text.replace("WORDS", pragma).replace("BODY", body))
    return generate(lower(Kernel("k", folder / "k.cpp")), RtlOptions(), folder / "rtl").report.processes


@pytest.mark.parametrize(
    ("words", "body", "least"),
    [(None, UPDATE, 1), (3, UPDATE, 1), (0, THREE, 3), (3, THREE, 3)],
)
def test_a_loop_keeps_its_interval_beside_one_that_takes_more(
    words: int | None, body: str, least: int, tmp_path: Path
) -> None:
    (process,) = built(tmp_path, KERNEL, words, body)
    found = {region.name: region.ii for region in process.regions}
    assert (found["copy"], found["words"], process.period_ps) == (1, least, 2150)


@pytest.mark.parametrize(
    ("text", "words", "body", "message"),
    [
        (
            KERNEL,
            2,
            THREE,
            "11:3: words cannot start an iteration every 2 cycle(s): what it accesses takes 3; "
            "ask for `#pragma HLS PIPELINE II=3` in words",
        ),
        (
            KERNEL,
            1,
            LINKS,
            "11:3: words cannot start an iteration every 1 cycle(s): array a depends on b, which is read at "
            "an address or under a condition that depends on it; ask for `#pragma HLS PIPELINE II=2` in copy "
            "and words",
        ),
        (
            ALONE,
            1,
            THREE,
            "10:24: three accesses to array a in one iteration (lines 10), but each of its memories has two "
            "ports; use ARRAY_PARTITION, or access it twice per iteration, or ask for "
            "`#pragma HLS PIPELINE II=3` in words",
        ),
    ],
    ids=["beside another", "both", "alone"],
)
def test_a_refusal_names_the_smallest_interval_that_works(
    text: str, words: int, body: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ScheduleError) as caught:
        built(tmp_path, text, words, body)
    assert str(caught.value) == f"{tmp_path}/k.cpp:{message}"
    least = int(message.partition("II=")[2][0])
    if " and " not in message.partition("II=")[2]:
        built(tmp_path, text, least, body)
        with pytest.raises(ScheduleError, match=rf"takes {least}; ask for `#pragma HLS PIPELINE II={least}`"):
            built(tmp_path, text, least - 1, body)


def test_intervals_of_processes(tmp_path: Path) -> None:
    source = KERNELS / "intervals.cpp"
    report = generate(lower(Kernel("intervals", source)), RtlOptions(), tmp_path).report
    found = {region.name: region.ii for process in report.processes for region in process.regions}
    asked = {"clear": 1, "give": 1, "all": 1}
    assert found == {"entry": 1, "step": 1, "add": 2, "subtract": 3, "sums": 3} | asked
    assert {process.period_ps for process in report.processes} == {2150}
