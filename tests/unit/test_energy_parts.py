# SPDX-License-Identifier: Apache-2.0
"""A run's energy of the parts that were measured: sessions, ranks, phases, images."""

from e2train.energy import Measured
from e2train.train import RunFolder
from e2train.train.summary import energy_figures


def part(energy_j, duration_s=10.0, **more):
    values = {"energy_j": energy_j, "net_energy_j": energy_j, "duration_s": duration_s, "idle_power_w": 2.0}
    fixed = {"source": "s", "origin": "measured", "reason": None if energy_j else "too short"}
    return Measured(**values | fixed | more)


def test_parts_and_ranks_add_up():
    two_boards = [[part(10.0), part(20.0)], [part(30.0), part(40.0)]]
    found = energy_figures(two_boards)
    assert (found["energy_measured_j"], found["energy_duration_s"]) == (100.0, 20.0)
    assert found["energy_idle_power_w"] == 4.0
    one_meter = energy_figures([[part(10.0)], []])
    assert (one_meter["energy_measured_j"], one_meter["energy_duration_s"]) == (10.0, 10.0)
    assert one_meter["energy_idle_power_w"] == 2.0


def test_phases_and_images_share_the_energy():
    phases = {"forward": 2.0, "backward": 5.0, "idle": 3.0}
    known, unknown = part(10.0, phases_j=phases), part(10.0, phases_reason="too slow")
    found = energy_figures([[known, known], [known]], images=60)
    assert found["energy_per_image_j"] == 0.5
    assert found["energy_phases_j"] == {"forward": 6.0, "backward": 15.0, "idle": 9.0}
    assert found["energy_phases_reason"] is None
    found = energy_figures([[known, unknown]], images=60)
    assert (found["energy_phases_j"], found["energy_phases_reason"]) == (None, "too slow")
    found = energy_figures([[part(None, duration_s=5.0)]], images=60)
    assert (found["energy_per_image_j"], found["energy_phases_j"]) == (None, None)
    assert found["energy_phases_reason"] == "nothing was measured"
    assert Measured.from_dict(known.to_dict()) == known


def test_a_part_of_no_length_does_not_void_the_rest_but_a_real_one_does():
    assert energy_figures([[part(10.0), part(None, duration_s=0.02)]])["energy_measured_j"] == 10.0
    found = energy_figures([[part(10.0), part(None, duration_s=5.0)]])
    assert (found["energy_measured_j"], found["energy_reason"]) == (None, "too short")
    many = energy_figures([[part(500.0, duration_s=100.0), *[part(None, duration_s=0.9)] * 150]])
    assert (many["energy_measured_j"], many["energy_reason"]) == (None, "too short")  # all of them together
    found = energy_figures([[part(10.0), part(10.0, source="t")], [part(10.0)]])
    assert (found["energy_measured_j"], found["energy_source"]) == (30.0, "s, t")
    found = energy_figures([[part(10.0), part(10.0, origin="simulated")]])
    assert (found["energy_measured_j"], found["energy_simulated_j"], found["energy_origin"]) == (None,) * 3


def test_without_samples_there_is_no_origin():
    nothing = Measured(duration_s=10.0, reason="no meter was asked for")
    assert nothing.origin is None
    found = energy_figures([[nothing]])
    assert (found["energy_origin"], found["energy_reason"]) == (None, "no meter was asked for")
    assert energy_figures([[part(10.0), nothing]])["energy_origin"] == "measured"  # of the samples there are
    older = Measured.from_dict(nothing.to_dict() | {"origin": "measured"})
    assert energy_figures([[older]])["energy_measured_j"] is None


def test_going_on_forgets_what_a_meter_said_after_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    folder.power.write_text("time_s,power_w,step\n-1.0,2,-1\n5.0,2,3\n9.0,2,8\n")
    folder.go_on(4, steps_run=0, measured_s=6.0)
    assert folder.power.read_text() == "time_s,power_w,step\n-1.0,2,-1\n5.0,2,3\n"
