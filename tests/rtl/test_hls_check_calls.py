# SPDX-License-Identifier: Apache-2.0
"""Kernels whose calls do not each turn words into words: state machines, and those that run ahead."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls import HlsError, check

PACKETS = """#include <hls_stream.h>
void packets(hls::stream<int>& x, hls::stream<int>& y) {
  static int state, sum;
  if (state == 0) { sum = 0; state = 1; }
  else if (state == 1) { int word = x.read(); sum += word; if (!word) { y.write(sum); state = 2; } }
  else if (state == 2) state = 0;
}
"""


def test_a_state_machine_may_have_calls_without_words(tmp_path: Path) -> None:
    source = tmp_path / "packets.cpp"
    source.write_text(PACKETS)
    report = check(source, inputs={"x": [3, 1, 2, 0, 5, 0]})  # each with a call before and behind it
    assert report.exact, report.lines
    assert report.words == {"x": 6, "y": 2}
    later = PACKETS.replace("{ y.write(sum); state = 2; }", "state = 2;")
    source.write_text(later.replace("state == 2) state = 0;", "state == 2) { y.write(sum); state = 0; }"))
    report = check(source, inputs={"x": [3, 1, 2, 0, 5, 0]})
    assert (report.exact, report.words) == (True, {"x": 6, "y": 2}), report.lines
    source.write_text(PACKETS.replace("state = 1;", "state = 3;"))
    with pytest.raises(HlsError, match=r"^packets: 1000 calls of the top function in a row moved no word$"):
        check(source, inputs={"x": [3, 0]})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("static int n; y_out.write(n++);", {"y_out": 400}),
        ("y_out.write(7); y_out.write(x_in.read());", {"x_in": 334, "y_out": 668}),
    ],
    ids=["no input", "a word before its input"],
)
def test_kernels_that_run_ahead(body: str, words: dict[str, int], tmp_path: Path) -> None:
    source = tmp_path / "ahead.cpp"
    ports = ", ".join(f"hls::stream<int>& {name}" for name in words)
    source.write_text(f"#include <hls_stream.h>\nvoid ahead({ports}) {{ {body} }}\n")
    report = check(source)
    assert report.exact, report.lines
    assert report.words == words
    assert all(run.cycles >= max(words.values()) for run in report.runs)
