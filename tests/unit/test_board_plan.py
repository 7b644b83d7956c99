# SPDX-License-Identifier: Apache-2.0
"""What a step takes on a board, planned: bounds for ResNet-20, and the command that tells them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from e2train.cli.app import main
from e2train.config import config_names, load_config
from e2train.devices.chains import board as board_memory
from e2train.nn import build_model, describe
from e2train.runtime import board_plan
from e2train.runtime.board_plan import Link, check_memory, most_memory_bytes, plan_step
from e2train.runtime.resident import BodyError, Kinds

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
    assert planned.calls == planned.calls_in_a_row == 5 * rounds + 4 <= 300
    assert planned.requests == rounds - 1 <= 300
    assert planned.request_bytes <= 2_500_000
    assert planned.sent_bytes <= 1_500_000
    assert planned.sent_bytes + planned.received_bytes <= 5_000_000
    assert planned.kept_cycles <= 0.06 * planned.client_cycles
    assert planned.cycles < 0.93 * (planned.client_cycles - planned.kept_cycles)
    moved = LINK.bytes_per_s * (planned.transfer_s(LINK) - planned.calls_in_a_row * LINK.call_s)
    assert moved == pytest.approx(planned.sent_bytes + planned.received_bytes)
    # At 110 MB/s and 0.5 ms per call or request.
    compute_s = planned.compute_s(187.5e6)
    assert planned.client_s(187.5e6) + planned.transfer_s(LINK) <= 0.45
    assert compute_s + planned.request_s(LINK) <= 0.45
    assert planned.request_s(LINK) <= (compute_s + planned.request_s(LINK)) / 3


def test_engines_share_the_cycles():
    four = load_config("zcu104")
    cycles = [plan_step(NETWORK, replace(four, engines=engines), samples=64).cycles for engines in (1, 2, 4)]
    assert [round(cycles[0] / each, 1) for each in cycles] == [1.0, 2.0, 3.9]


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


def test_every_board_has_a_most_memory_that_leaves_room_for_chains():
    for board in config_names():
        left = most_memory_bytes(board) + board_memory._OWN_BYTES
        assert left.bit_count() == 1, board  # half of the DDR
        assert 256 << 20 <= left <= 2 << 30
    assert most_memory_bytes("my_board") is None
    check_memory(NETWORK, "my_board", samples=1 << 40)


def test_a_batch_that_the_board_cannot_hold_is_refused_with_one_that_it_can():
    """The memory is that of the plan, to the byte."""
    most, of_eight = most_memory_bytes("pynq_z2"), 8 * 614_400
    assert plan_step(NETWORK, load_config("pynq_z2"), samples=8).memory_bytes == of_eight
    fits = 8 * most // of_eight
    check_memory(NETWORK, "pynq_z2", samples=fits)
    with pytest.raises(BodyError) as error:
        check_memory(NETWORK, "pynq_z2", samples=fits + 1)
    assert str(error.value) == (
        "a step of 427 images takes 262,348,800 bytes of contiguous memory, and pynq_z2 can have 262,144,000 "
        "at most (Memory in docs/board.md); use --batch 426 or less"
    )


def test_fewer_bits_leave_room_for_more_images():
    narrow = Kinds(result="int8", input_gradient="int8", block_gradient="int8")
    check_memory(NETWORK, "pynq_z2", samples=600, kinds=narrow)
    with pytest.raises(BodyError, match=r"use --batch 426 or less$"):
        check_memory(NETWORK, "pynq_z2", samples=600)


def test_a_network_that_no_batch_of_fits_is_refused(monkeypatch):
    monkeypatch.setattr(board_plan, "most_memory_bytes", lambda config: 614_400)
    check_memory(NETWORK, "pynq_z2", samples=1)
    monkeypatch.setattr(board_plan, "most_memory_bytes", lambda config: 614_399)
    with pytest.raises(BodyError, match=r"; the network does not fit at all$"):
        check_memory(NETWORK, "pynq_z2", samples=1)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command of ``e2train board``; its exit code and what it printed."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["e2train", "board", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("resnet20", "--board", "pynq_z2", "--batch", "4096"),
            "a step of 4,096 images takes 2,516,582,400 bytes of contiguous memory, and pynq_z2 can have "
            "262,144,000 at most (Memory in docs/board.md); use --batch 426 or less",
        ),
        (
            ("resnet18",),
            "resnet18 has no resident step to plan, as only its convolutions run on a board; plan digits, "
            "resnet8 to resnet110 or mobilenetv2",
        ),
    ],
)
def test_a_step_that_no_board_takes_is_refused(command, words, message):
    assert command("plan", *words) == (2, "", f"e2train: {message}\n")
    model, *options = words
    with_board = ("check", "--overlay", "missing.zip", "--model", model, *options)
    assert command(*with_board) == (2, "", f"e2train: {message}\n")  # before the board is opened


def test_the_help_names_no_model_that_cannot_be_planned(command):
    for name in ("plan", "check"):
        code, out, _ = command(name, "--help")
        assert (code, "mobilenetv2" in out, "resnet18" in out) == (0, True, False)


def test_a_command_shows_the_plan(command):
    def run(*words):
        return command("plan", *words)

    code, out, _ = run("digits", "--board", "pynq_z2", "--batch", "4", "--json", "--call-ms", "2")
    figures = json.loads(out)
    assert (code, figures["samples"]) == (0, 4)
    moved = figures["sent_bytes"] + figures["received_bytes"]
    assert figures["transfer_s"] == pytest.approx(2e-3 * figures["calls_in_a_row"] + moved / 110e6)
    cycles = figures["client_cycles"]
    assert figures["step_s"] == pytest.approx(1.03 * cycles * 1e-8 + figures["transfer_s"])
    assert run("digits", "--method", "smb-fp32") == (
        2,
        "",
        "e2train: no method 'smb-fp32' that computes on a board; there are: smb-int8, sd, smd, slu, signsgd, "
        "psg, e2train\n",
    )
