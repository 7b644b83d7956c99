# SPDX-License-Identifier: Apache-2.0
"""The bench's generators hit what they claim."""

from __future__ import annotations

import numpy as np
import pytest
from e2train.config import load_config
from e2train.numerics.frames import Kind, Status, decode_header, decode_trailer, run_transfer
from e2train.numerics.frames.layout import TRAILER_WORDS
from e2train.numerics.frames.trailer import Trailer
from engine_cases import Cases, Loop, nest

CONFIG = load_config("pynq_z2")


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(np.random.default_rng(3), CONFIG)


def trailer(reply: np.ndarray) -> Trailer:
    return decode_trailer(reply[-TRAILER_WORDS:])


def status(reply: np.ndarray) -> Status:
    return Status(trailer(reply).status)


@pytest.mark.parametrize("mode", ["forward", "grad_input", "grad_weight", "grad_msb", "affine", "reduce"])
def test_good_transfers_are_good_and_stay_in_their_buffers(cases: Cases, mode: str) -> None:
    for words in [*cases.corners(mode), *cases.random(mode, 50)]:
        reply = run_transfer(words, CONFIG)
        header = decode_header(words)
        assert status(reply) is Status.OK
        assert header.iterations <= 512
        assert header.x_count <= CONFIG.x_depth
        assert header.w_count <= CONFIG.w_vectors


@pytest.mark.parametrize("mode", ["forward", "grad_input"])
def test_corners_saturate_and_round(cases: Cases, mode: str) -> None:
    replies = [run_transfer(words, CONFIG) for words in cases.corners(mode)]
    assert sum(trailer(reply).saturations for reply in replies) > 0
    headers = [decode_header(words) for words in cases.corners(mode)]
    assert {0, 1, 255} <= {header.shift for header in headers}
    assert {header.result for header in headers} == set(Kind)


def test_element_cases_use_every_option(cases: Cases) -> None:
    for mode in ("affine", "reduce"):
        headers = [decode_header(words) for words in [*cases.corners(mode), *cases.random(mode, 50)]]
        for option in ("mask_x", "mask_signed", "x_spread", "w_spread", "x_kind", "w_kind"):
            assert {getattr(header, option) for header in headers} >= {0, 1}, option
        assert max(header.planes for header in headers) > 10
    replies = [trailer(run_transfer(words, CONFIG)) for words in cases.corners("affine")]
    assert sum(reply.saturations for reply in replies) > 0


def test_every_fault_is_one_and_every_status_has_one(cases: Cases) -> None:
    found = {name: status(run_transfer(words, CONFIG)) for name, words in cases.faults()}
    assert Status.OK not in found.values()
    assert set(found.values()) == set(Status) - {Status.OK}


def test_nest_undoes_inner_travel() -> None:
    levels = nest(Loop(limit=3, dxa=1), Loop(limit=4, dxa=10), Loop(limit=2, dxa=100))
    address, seen = 0, []
    for outer in range(2):
        for middle in range(4):
            for inner in range(3):
                seen.append(address)
                advanced = 0 if inner < 2 else 1 if middle < 3 else 2
                address += levels[advanced].dxa if (outer, middle, inner) != (1, 3, 2) else 0
    assert seen == [100 * o + 10 * m + i for o in range(2) for m in range(4) for i in range(3)]
