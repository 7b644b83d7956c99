# SPDX-License-Identifier: Apache-2.0
"""The words that go into a kernel: given in files, or random ones with many corners."""

from __future__ import annotations

import random
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from e2hls.base.errors import HlsError
from e2hls.base.rtl_design import PortReport
from e2hls.native import Words
from e2hls.simulation.harness import from_words, random_words

__all__ = ["LIMITS", "Limits", "Stimuli", "draw", "given_words", "limits_of", "read_stimuli"]

_LAST = 0.125  # share of beats with TLAST
_WHOLE = 0.8  # share of beats whose bytes all count
_FUNCTION = "inputs"  # of a Python file

Stimuli = Mapping[str, Any]  # by stream: an array of integers, a sequence of them, or Words


@dataclass(frozen=True, slots=True)
class Limits:
    """How large random words may be: bits of words that scalars and streams carry, None for all they have."""

    scalar_bits: int | None = None
    stream_bits: int | None = None
    zero: bool = True

    def __str__(self) -> str:
        parts = [
            f"{kind} below {1 << bits}"
            for kind, bits in (("scalars", self.scalar_bits), ("words", self.stream_bits))
            if bits is not None
        ]
        return " and ".join([*parts, *([] if self.zero else ["no zeros"])])


# Tried in this order until the native build runs through: large words may be indices out of an array.
LIMITS = (
    Limits(),
    Limits(zero=False),
    *(Limits(bits, None) for bits in (7, 4, 2, 1, 0)),
    *(Limits(4, bits) for bits in (7, 5, 3)),
    Limits(2, 2),
    Limits(1, 1),
    Limits(0, 0),
)


def limits_of(limits: Sequence[Limits], *, scalars: bool, streams: bool) -> list[Limits]:
    """Those of ``limits`` that differ, where there are no scalars or no other streams to limit."""
    own = (
        replace(
            each,
            scalar_bits=each.scalar_bits if scalars else None,
            stream_bits=each.stream_bits if streams else None,
        )
        for each in limits
    )
    return list(dict.fromkeys(own))


def draw(port: PortReport, count: int, limits: Limits, rng: random.Random, *, scalar: bool) -> list[int]:
    """Random words for a stream."""
    bits = limits.scalar_bits if scalar else limits.stream_bits
    width = port.data_bits if bits is None else min(bits, port.data_bits)
    words = random_words(rng, count, width) if width else [0] * count
    if not limits.zero:
        words = [word or 1 for word in words]
    at = port.data_bits
    if port.axis:
        words = [word | (rng.random() < _LAST) << at for word in words]
        at += 1
    for side, side_bits in port.sides:
        full = (1 << side_bits) - 1
        bytes_count = side in ("keep", "strb")
        words = [
            word | (full if bytes_count and rng.random() < _WHOLE else rng.getrandbits(side_bits)) << at
            for word in words
        ]
        at += side_bits
    return words


def read_stimuli(given: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The words of ``NAME=FILE.npy``, and those by name that ``inputs(rng)`` of a Python file returns.

    Raises: HlsError for a file that cannot be read or holds something else.
    """
    found: dict[str, Any] = {}
    for each in given:
        name, equals, file = each.partition("=")
        if equals and file.endswith(".npy") and name.isidentifier():
            found[name] = _array(Path(file))
        elif not equals and each.endswith(".py"):
            found |= _called(Path(each), seed)
        else:
            raise HlsError(f"an input must be NAME=FILE.npy or FILE.py, not {each!r}")
    return found


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npy array"
        raise HlsError(f"cannot read {path}: {reason}") from None


def _called(path: Path, seed: int) -> dict[str, Any]:
    try:
        function = runpy.run_path(str(path)).get(_FUNCTION)
        if not callable(function):
            raise HlsError(f"{path} has no function {_FUNCTION}(rng)")
        words = function(np.random.default_rng(seed))
    except OSError as error:
        raise HlsError(f"cannot read {path}: {error.strerror}") from None
    except HlsError:
        raise
    except Exception as error:  # whatever a user's code raises
        raise HlsError(f"{path}: {type(error).__name__}: {error}") from None
    if not isinstance(words, dict) or not all(isinstance(name, str) for name in words):
        raise HlsError(f"{path}: {_FUNCTION}(rng) must return a dict of words by stream, not {words!r:.60}")
    return words


def given_words(stimuli: Stimuli, ports: Sequence[PortReport]) -> dict[str, list[int]]:
    """The words of ``stimuli`` for a kernel's inputs; the last one of a packet without Words has TLAST.

    Raises: HlsError for a stream that is no input, or a word that it does not hold.
    """
    inputs = {port.name: port for port in ports if not port.output}
    for name in stimuli:
        if name not in inputs:
            raise HlsError(f"the kernel has no input {name!r}; it has {', '.join(inputs) or 'none'}")
    return {name: _integers(name, words, inputs[name]) for name, words in stimuli.items()}


def _integers(name: str, words: Any, port: PortReport) -> list[int]:
    if isinstance(words, Words):
        return from_words(words, port)
    array = np.asarray(words)
    whole = array.dtype.kind in "iub" or (array.dtype.kind == "O" and all(type(w) is int for w in array.flat))
    if not whole or not array.size:
        raise HlsError(
            f"words of {name} must be integers, at least one, not {array.dtype} of shape {array.shape}"
        )
    values = [int(word) for word in array.reshape(-1)]
    low, high = -(1 << port.data_bits - 1), (1 << port.data_bits) - 1
    wrong = next((at for at, word in enumerate(values) if not low <= word <= high), None)
    if wrong is not None:
        raise HlsError(f"word {wrong} of {name} is {values[wrong]}; a word has {port.data_bits} bits")
    at, full = port.data_bits, 0
    for side, bits in port.sides:
        full |= ((1 << bits) - 1 if side in ("keep", "strb") else 0) << (at + port.axis)
        at += bits
    masked = [word % (1 << port.data_bits) | full for word in values]
    if port.axis:
        masked[-1] |= 1 << port.data_bits
    return masked
