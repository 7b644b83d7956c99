# SPDX-License-Identifier: Apache-2.0
"""What a step takes on a board, planned: bounds for ResNet-20, and the command that tells them."""

from __future__ import annotations

import json

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
        result="int16",
        gradient="int8",
        bits=(4, 8),
        gates=gates,
    )
    convolutions, gated = 19, 8
    assert planned.chains == 2 * (convolutions + 1) + gated * gates
    assert planned.calls == 7 * planned.chains + 4
    if not gates:
        assert planned.calls <= 300
    assert planned.requests == planned.chains
    assert planned.request_bytes <= 5_000_000
    assert planned.request_s(LINK) < 0.1
    assert LINK.bytes_per_s * (planned.transfer_s(LINK) - planned.calls * LINK.call_s) == pytest.approx(
        planned.sent_bytes + planned.received_bytes
    )


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
    assert figures["transfer_s"] == pytest.approx(2e-3 * figures["calls"] + moved / 110e6)
    assert figures["step_s"] == pytest.approx(figures["cycles"] * 1e-8 + figures["transfer_s"])
    assert run("digits", "--method", "smb-fp32") == (
        2,
        "",
        "e2train: no method 'smb-fp32' that computes on a board; there are: smb-int8, sd, smd, slu, signsgd, "
        "psg, e2train\n",
    )
