# SPDX-License-Identifier: Apache-2.0
"""What a step takes on a board, planned: bounds for ResNet-20, and the command that tells them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from e2train.cli.app import main
from e2train.config import load_config
from e2train.nn import build_model, describe
from e2train.runtime.board_plan import Link, plan_step

NETWORK = describe(*build_model("resnet20"))
LINK = Link()


@pytest.mark.parametrize("gates", [False, True])
def test_a_step_of_resnet20_stays_within_its_bounds(gates):
    planned = plan_step(
        NETWORK,
        load_config("zcu104"),
        samples=128,
        bits=(4, 8),
        gates=gates,
    )
    convolutions, gated, engines = 19, 8, 4
    rounds = 2 * (convolutions + 1) + gated * gates + 1  # the last one for sums of weight gradients alone
    assert (planned.rounds, planned.engines, planned.chains) == (rounds, engines, engines * rounds)
    assert planned.calls == (4 + 2 * engines) * rounds + 4
    assert planned.calls_in_a_row == 5 * rounds + 4 <= 300
    assert planned.requests == rounds - 1 <= 300
    assert planned.request_bytes <= 2_500_000
    assert planned.sent_bytes <= 1_500_000
    assert planned.sent_bytes + planned.received_bytes <= 7_700_000
    assert planned.kept_cycles <= 0.06 * planned.cycles
    moved = LINK.bytes_per_s * (planned.transfer_s(LINK) - planned.calls_in_a_row * LINK.call_s)
    assert moved == pytest.approx(planned.sent_bytes + planned.received_bytes)
    # At 110 MB/s and 0.5 ms per call or request.
    compute_s = planned.compute_s(187.5e6)
    assert compute_s + planned.kept_s(187.5e6) + planned.transfer_s(LINK) <= 0.45
    assert compute_s + planned.request_s(LINK) <= 0.45
    assert planned.request_s(LINK) <= (compute_s + planned.request_s(LINK)) / 3


def test_engines_share_the_cycles():
    four = load_config("zcu104")
    cycles = [plan_step(NETWORK, replace(four, engines=engines), samples=8).cycles for engines in (1, 2, 4)]
    assert [round(cycles[0] / each, 1) for each in cycles] == [1.0, 1.9, 3.5]


def test_descriptors_that_find_no_room_are_sent_in_every_step(monkeypatch):
    def planned():
        return plan_step(describe(*build_model("digits")), load_config("zcu104"), samples=9)

    kept = planned()
    monkeypatch.setattr("e2train.runtime.board_plan.MOST_KEPT_BYTES", 0)
    sent = planned()
    assert (kept.kept_cycles > 0, sent.kept_cycles) == (True, 0)
    assert sent.sent_bytes > 1.5 * kept.sent_bytes
    assert sent.calls == kept.calls


def test_a_board_of_one_engine_takes_at_most_300_calls_and_5_mb_a_step():
    planned = plan_step(NETWORK, load_config("pynq_z2"), samples=128, bits=(4, 8))
    assert planned.calls == 6 * planned.rounds + 4 <= 300
    assert planned.calls_in_a_row == 5 * planned.rounds + 4
    assert planned.sent_bytes + planned.received_bytes <= 5_000_000


def test_the_plan_is_told_by_a_command(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr("sys.argv", ["e2train", "board", "plan", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    code, out, _ = run("digits", "--board", "pynq_z2", "--batch", "4", "--json", "--call-ms", "2")
    figures = json.loads(out)
    assert (code, figures["samples"]) == (0, 4)
    moved = figures["sent_bytes"] + figures["received_bytes"]
    assert figures["transfer_s"] == pytest.approx(2e-3 * figures["calls_in_a_row"] + moved / 110e6)
    cycles = figures["cycles"] + figures["kept_cycles"]
    assert figures["step_s"] == pytest.approx(cycles * 1e-8 + figures["transfer_s"])
    assert run("digits", "--method", "smb-fp32") == (
        2,
        "",
        "e2train: no method 'smb-fp32' that computes on a board; there are: smb-int8, sd, smd, slu, signsgd, "
        "psg, e2train\n",
    )
