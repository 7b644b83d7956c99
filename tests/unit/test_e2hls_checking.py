# SPDX-License-Identifier: Apache-2.0
"""The words that go into a check, and what of those that come out counts as a difference."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from e2hls.base.errors import HlsError
from e2hls.base.rtl_design import PortReport, RtlDesign, RtlReport
from e2hls.checking import Reference, compare, read_stimuli
from e2hls.checking.compare import Difference
from e2hls.checking.kernel import CheckReport, CheckRun, find_kernel
from e2hls.checking.stimuli import LIMITS, Limits, draw, given_words, limits_of
from e2hls.native import build_native
from e2hls.simulation import SimulationRun

X = PortReport(name="x", data_bits=8, axis=False, output=False)
BEAT = PortReport(name="b", data_bits=8, axis=True, output=False, sides=(("keep", 1), ("user", 3)))
OUT = PortReport(name="y", data_bits=8, axis=False, output=True)


def differences(
    got: list[int], *, processes=1, reads=3, undefined: frozenset[int] = frozenset()
) -> list[str]:
    reference = Reference(
        inputs={"x": [1] * reads} if reads else {},
        outputs={"y": [1, 2, 3]},
        further={"y": [4, 5]},
        surplus={"y": 1},
        calls=1,
    )
    run = SimulationRun(outputs={"y": got}, moved={}, cycles=1)
    found = compare(reference, run, processes=processes, undefined={"y": undefined})
    return [str(each) for each in found]


def test_streams_stand_among_other_parameters(tmp_path: Path) -> None:
    source = tmp_path / "scale.cpp"
    source.write_text(
        "#include <ap_axi_sdata.h>\n"
        "typedef hls::stream<ap_axiu<8, 0, 0, 0>> Beats;\n"
        "void scale(Beats& x, int by, Beats& y) {\n  auto beat = x.read();\n  beat.data *= by;\n"
        "  y.write(beat);\n}\n"
    )
    wrapped = find_kernel(source)
    assert build_native(wrapped.kernel).ports == ("x", "by_in", "y")
    assert wrapped.scalars == {"by_in"}


def test_words_beyond_the_calls_are_those_of_more_calls() -> None:
    assert differences([1, 2, 3]) == differences([1, 2, 3, 4]) == []
    assert differences([1, 2, 3, 9]) == ["word 3 of y: native 0x4, RTL 0x9"]
    # One process stops where it has no more words to take; several run ahead of each other.
    assert differences([1, 2, 3, 4, 5]) == ["word 4 of y: native no word, RTL 0x5"]
    assert differences([1, 2, 3, 4, 5, 9], processes=2) == []
    assert differences([1, 2, 3, 4, 5, 9], reads=0) == []


def test_the_first_difference_is_told() -> None:
    assert differences([1, 7, 8]) == ["word 1 of y: native 0x2, RTL 0x7"]
    assert differences([1]) == ["word 1 of y: native 0x2, RTL no word"]
    assert differences([1, 7, 3], undefined=frozenset({1})) == []
    assert differences([1, 7, 8], undefined=frozenset({1})) == ["word 2 of y: native 0x3, RTL 0x8"]
    assert differences([1], undefined=frozenset({1})) == ["word 1 of y: native 0x2, RTL no word"]


def test_limits_bound_random_words() -> None:
    for limits in LIMITS:
        words = draw(X, 500, limits, random.Random(1), scalar=False)
        most = 255 if limits.stream_bits is None else (1 << limits.stream_bits) - 1
        assert max(words) == max(most, 0 if limits.zero else 1)
        assert (0 in words) == limits.zero
    assert max(draw(X, 500, Limits(scalar_bits=4), random.Random(1), scalar=True)) == 15
    assert str(Limits(4, 7)) == "scalars below 16 and words below 128"
    assert str(Limits(zero=False)) == "no zeros"
    assert str(Limits()) == ""


def test_limits_that_would_change_nothing_are_left_out() -> None:
    assert limits_of(LIMITS, scalars=True, streams=True) == [*LIMITS]
    streams = limits_of(LIMITS, scalars=False, streams=True)
    assert [str(each) for each in streams[:3]] == ["", "no zeros", "words below 128"]
    assert [each.stream_bits for each in streams] == [None, None, 7, 5, 3, 2, 1, 0]
    scalars = limits_of(LIMITS, scalars=True, streams=False)
    assert [each.scalar_bits for each in scalars] == [None, None, 7, 4, 2, 1, 0]


def test_random_beats_end_packets_and_have_side_channels() -> None:
    words = draw(BEAT, 400, Limits(), random.Random(1), scalar=False)
    assert 20 < sum(word >> 8 & 1 for word in words) < 100
    assert {word >> 9 & 1 for word in words} == {0, 1}
    assert {word >> 10 for word in words} == set(range(8))


def test_given_words() -> None:
    given = given_words({"x": [-1, 255], "b": np.array([[1, 2]])}, (X, BEAT, OUT))
    assert given == {"x": [255, 255], "b": [1 | 1 << 9, 2 | 1 << 9 | 1 << 8]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": [1]}, "the kernel has no input 'z'; it has x, b"),
        ({"y": [1]}, "the kernel has no input 'y'; it has x, b"),
        ({"x": [1, 256]}, "word 1 of x is 256; a word has 8 bits"),
        ({"x": [-129]}, "word 0 of x is -129; a word has 8 bits"),
        ({"x": [0.5]}, "words of x must be integers, at least one, not float64 of shape (1,)"),
        ({"x": []}, "words of x must be integers, at least one, not float64 of shape (0,)"),
        ({"x": ["a"]}, "words of x must be integers, at least one, not <U1 of shape (1,)"),
        ({"x": [None]}, "words of x must be integers, at least one, not object of shape (1,)"),
    ],
)
def test_words_that_do_not_fit_are_one_line(given, message: str) -> None:
    with pytest.raises(HlsError) as raised:
        given_words(given, (X, BEAT, OUT))
    assert str(raised.value) == message


def test_words_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.arange(3))
    Path("words.py").write_text("def inputs(rng):\n    return {'b': rng.integers(0, 9, 4)}\n")
    found = read_stimuli(["x=x.npy", "words.py"], seed=5)
    assert found["x"].tolist() == [0, 1, 2]
    assert found["b"].tolist() == np.random.default_rng(5).integers(0, 9, 4).tolist()


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        ("x=x.csv", "", "an input must be NAME=FILE.npy or FILE.py, not 'x=x.csv'"),
        ("x=no.npy", "", "cannot read no.npy: No such file or directory"),
        ("no.py", "", "cannot read no.py: No such file or directory"),
        ("x=words.py", "", "an input must be NAME=FILE.npy or FILE.py, not 'x=words.py'"),
        ("words.py", "x = 1", "words.py has no function inputs(rng)"),
        ("words.py", "x = ", "words.py: SyntaxError: invalid syntax (words.py, line 1)"),
        ("words.py", "def inputs(rng): return 1 / 0", "words.py: ZeroDivisionError: division by zero"),
        (
            *("words.py", "def inputs(rng): return [1]"),
            "words.py: inputs(rng) must return a dict of words by stream, not [1]",
        ),
        ("x=bad.npy", "", "cannot read bad.npy: it is no .npy array"),
    ],
)
def test_files_that_give_no_words_are_one_line(
    given: str, text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.py").write_text(text)
    Path("bad.npy").write_text("nonsense")
    with pytest.raises(HlsError) as raised:
        read_stimuli([given], seed=1)
    assert str(raised.value).replace(f"{tmp_path}/", "") == message


def test_a_difference_comes_with_the_overflow_that_may_be_why() -> None:
    differs = Difference(stream="y", index=1, native=0, rtl=1)
    run = CheckRun(seed=4, idle=0, stall=0, cycles=9, fault="", differences=(differs,))
    report = CheckReport(
        kernel="k",
        design=RtlDesign("k", Path(), (), (), RtlReport(ports=(), processes=(), rams=())),
        seed=1,
        calls=1,
        words={"y": 2},
        runs=(run,),
        overflow="k.cpp:3: 2147483647 + 1 overflows int",
    )
    assert report.lines == (
        "word 1 of y: native 0x0, RTL 0x1 (idle 0, stall 0, --seed 1 repeats it)",
        "k.cpp:3: 2147483647 + 1 overflows int",
        "1 of 1 runs failed",
    )
    assert report.as_json()["overflow"] == report.overflow
