# SPDX-License-Identifier: Apache-2.0
"""``e2train energy`` as a user types it."""

import json
import subprocess
import sys

import pytest

# Writes the log that an external meter would: 5 W, 20 times a second.
LOGGED = """
import sys, time
with open(sys.argv[1], "w") as log:
    log.write("time_s,power_w\\n")
    end = time.time() + 1.5
    while (now := time.time()) < end:
        log.write(f"{now:.6f},5.0\\n")
        time.sleep(0.05)
sys.exit(int(sys.argv[2]))
"""


def energy(*arguments, cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "e2train", "energy", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


def test_sensors_say_what_there_is_or_why_not(tmp_path):
    done = energy("sensors", "--json", cwd=tmp_path)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kind"] for row in rows} == {"hwmon", "pmbus", "rapl", "ina226", "joulescope", "csv"}
    assert all(row["found"] or row["reason"] for row in rows)


@pytest.mark.parametrize("code", [0, 3])
def test_record_measures_a_command_and_passes_its_exit_code_on(tmp_path, code):
    log = tmp_path / "log.csv"
    command = (sys.executable, "-c", LOGGED, log, code)
    done = energy("record", "--meter", f"csv:{log}", "--idle", 0, "--json", "--", *command, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    payload = json.loads(done.stdout)
    assert payload["exit_code"] == code
    assert payload["reason"] is None
    assert payload["energy_j"] == pytest.approx(5.0 * payload["duration_s"], rel=0.01)
    assert payload["source"] == "measured by log.csv"
    assert json.loads((tmp_path / "energy" / "energy.json").read_text()) == payload
    assert (tmp_path / "energy" / "power.csv").read_text().startswith("time_s,power_w,step\n")


@pytest.mark.parametrize(
    ("arguments", "code", "payload"),
    [
        (("record", "--meter", "none", "--", "true"), 2, "e2train: no meter was asked for"),
        (("record", "--meter", "watts", "--", "true"), 2, "e2train: no meter 'watts'; there are: auto"),
        (("record", "--meter", "csv:x.csv", "--idle", 0, "--", "no-such-command"), 127, "cannot run no-such"),
        (("record", "--meter", "csv:wrong.csv", "--", "false"), 2, "wrong.csv needs the columns time_s and"),
        (("report", "nothing"), 2, "e2train: no folder nothing; give the folder of a run"),
        (("report", ".", "--costs", "x.toml"), 2, "e2train: cannot read x.toml: No such file or directory"),
        (("sensors", "--device", "emulator"), 2, "e2train: 'emulator' is no board whose sensors can be read"),
        (("sensors", "--device", "pynq"), 2, "a board's sensors need its overlay"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, arguments, code, payload):
    (tmp_path / "wrong.csv").write_text("t,p\n1,2\n")
    done = energy(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert payload in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_meters_log_is_not_written_over(tmp_path):
    (tmp_path / "energy").mkdir()
    log = tmp_path / "energy" / "power.csv"
    log.write_text("time_s,power_w\n1,5\n")
    done = energy("record", "--meter", "csv:energy/power.csv", "--idle", 0, "--", "true", cwd=tmp_path)
    assert (done.returncode, log.read_text()) == (2, "time_s,power_w\n1,5\n")
    assert done.stderr == "e2train: energy/power.csv is the meter's log; give another folder with --out\n"


def test_what_cannot_be_written_is_known_before_the_command_runs(tmp_path):
    (tmp_path / "energy" / "power.csv").mkdir(parents=True)
    done = energy("record", "--meter", "csv:x.csv", "--idle", 0, "--", "touch", "ran", cwd=tmp_path)
    assert (done.returncode, (tmp_path / "ran").exists()) == (2, False)
    assert done.stderr == (
        "e2train: cannot write energy/power.csv: Is a directory; give another folder with --out\n"
    )


def test_nothing_of_an_earlier_recording_stays(tmp_path):
    (tmp_path / "energy").mkdir()
    for name in ("power.csv", "energy.json"):
        (tmp_path / "energy" / name).write_text("of an earlier one")
    energy("record", "--meter", "csv:x.csv", "--idle", 0, "--", "true", cwd=tmp_path)
    assert not (tmp_path / "energy" / "power.csv").exists()
    assert json.loads((tmp_path / "energy" / "energy.json").read_text())["energy_j"] is None


@pytest.mark.parametrize(("own", "code"), [(0, 1), (3, 3)])
def test_a_log_that_never_came_is_a_reason_and_no_energy(tmp_path, own, code):
    command = ("sh", "-c", f"exit {own}")
    done = energy("record", "--meter", "csv:x.csv", "--idle", 0, "--", *command, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout == "no energy: cannot read x.csv: No such file or directory\n"
    payload = json.loads((tmp_path / "energy" / "energy.json").read_text())
    assert (payload["energy_j"], payload["origin"], payload["exit_code"]) == (None, None, own)
