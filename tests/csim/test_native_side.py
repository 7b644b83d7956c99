# SPDX-License-Identifier: Apache-2.0
"""The native side of a check: how many words calls take, and which random words are small enough."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import PortReport
from e2hls.checking import Reference, reference
from e2hls.checking.stimuli import LIMITS

HEAD = """\
#include <hls_stream.h>
#include <cstdlib>
typedef hls::stream<int> Ints;
"""


@pytest.fixture
def run(tmp_path: Path):
    def run_body(body: str, *inputs: str, **options: object) -> Reference:
        source = tmp_path / "top.cpp"
        parameters = ", ".join(f"Ints& {name}" for name in (*inputs, "y"))
        source.write_text(f"{HEAD}void top({parameters}) {{\n{body}\n}}\n")
        ports = [
            PortReport(name=name, data_bits=32, axis=False, output=name == "y") for name in (*inputs, "y")
        ]
        return reference(Kernel("top", source), tuple(ports), **{"given": {}, **options})

    return run_body


def test_a_count_of_words_is_drawn_small(run) -> None:
    body = "const int n = n_in.read(); for (int i = 0; i < n; ++i) y.write(x.read());\ny.write(n);"
    found = run(body, "n_in", "x", scalars=frozenset({"n_in"}))
    assert found.limits == "scalars below 128"
    assert "read from an empty stream" in found.refused
    assert 15 < max(found.inputs["n_in"]) < 128
    assert len(found.inputs["x"]) == sum(found.inputs["n_in"])
    assert len(found.outputs["y"]) == len(found.inputs["x"]) + found.calls


def test_a_call_that_takes_many_words_gets_them(run) -> None:
    found = run("int s = 0; for (int i = 0; i < 5000; ++i) s += x.read();\ny.write(s);", "x")
    assert (found.limits, found.calls) == ("", 3)
    assert len(found.inputs["x"]) == 15_000
    assert len(found.further["y"]) == 2


def test_given_words_are_used_up(run) -> None:
    found = run("y.write(x.read() + z.read());", "x", "z", given={"x": [1, 2, 3]})
    assert found.inputs["x"] == [1, 2, 3]
    assert [(1 + i + z) % 2**32 for i, z in enumerate(found.inputs["z"])] == found.outputs["y"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("static char h[4]; const int n = x.read();\ny.write(h[n | 8]);", "element "),
        (
            "if (x.read() >= 0 || true) std::exit(0);\ny.write(1);",
            "the native build ended this process before it returned",
        ),
        ("if (x.read() >= 0 || true) std::abort();\ny.write(1);", "the native build crashed (SIGABRT)"),
    ],
)
def test_a_kernel_that_fails_with_any_words_is_one_line(
    run, body: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2hls.checking.native_side.LIMITS", LIMITS[:2])
    with pytest.raises(HlsError) as raised:
        run(body, "x")
    assert message in str(raised.value)
    assert str(raised.value).endswith("; smaller random words fail too: give words of your own by --input")
