# SPDX-License-Identifier: Apache-2.0
"""Known waveforms through every meter's real file or wire format: the integral is right to 1 %."""

import csv
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from e2sim.board.peripherals import PowerModel, SimulatedSensor
from e2train.energy import EnergyError, Recorder, Recording
from e2train.energy.meters import (
    find_hwmon,
    find_rapl,
    joulescope,
    open_ina226,
    open_joulescope,
    pmbus,
    read_csv_log,
    read_local_file,
)
from pynq.pmbus import Rail, SysFSSensor

PERIODS = 800
FINE = 64  # points per period of the waveform
WRAP_J = 16.0  # of the counter: several times in each run


@dataclass
class Load:
    """Something whose power is known at every time; ``now_s`` is the virtual clock."""

    period_s: float
    powers_w: np.ndarray  # FINE to a period
    now_s: float = 0.0
    energies_j: np.ndarray = field(init=False)

    def __post_init__(self):
        self.energies_j = np.concatenate([[0.0], np.cumsum(self.powers_w) * self.period_s / FINE])

    def power_w(self) -> float:
        return float(self.powers_w[min(int(self.now_s / self.period_s * FINE), len(self.powers_w) - 1)])

    def energy_j(self, at_s: float | None = None) -> float:
        at = (self.now_s if at_s is None else at_s) / self.period_s * FINE
        return float(np.interp(at, np.arange(len(self.energies_j)), self.energies_j))


def steps(rng):
    """At least ten periods apart."""
    lengths = rng.integers(10, 60, PERIODS // 10)
    return np.repeat(rng.uniform(1.0, 9.0, len(lengths)), lengths * FINE)[: PERIODS * FINE]


def ramps(rng):
    return 2.0 + 3.0 * (1 + np.sin(np.arange(PERIODS * FINE) / FINE / rng.uniform(8, 12)))


def noise(rng):
    return np.repeat(4.0 + 0.2 * rng.standard_normal(PERIODS * 4), FINE // 4)


def hwmon_meter(load, monkeypatch, tmp_path):
    files = {"name": lambda: b"ina260_u14\n", "power1_input": lambda: b"%d\n" % round(1e6 * load.power_w())}
    return find_hwmon(_files("/sys/class/hwmon/hwmon0", files))[0]


def rapl_meter(load, monkeypatch, tmp_path):
    files = {
        "name": lambda: b"package-0\n",
        "max_energy_range_uj": lambda: b"%d\n" % round(1e6 * WRAP_J),
        "energy_uj": lambda: b"%d\n" % (round(1e6 * (load.energy_j() + 5.0)) % round(1e6 * WRAP_J)),
    }
    return find_rapl(_files("/sys/class/powercap/intel-rapl:0", files))[0]


def pmbus_meter(load, monkeypatch, tmp_path):
    """pynq's own rail, reading pynq's own kind of file."""
    file = tmp_path / "power1_input"

    class Written(SysFSSensor):
        @property
        def value(self):
            file.write_text(f"{round(1e6 * load.power_w())}\n")
            return super().value

    rail = Rail("VCCINT")
    rail.power = Written(str(file), "W", "VCCINT", 1e-6)
    monkeypatch.setattr("pynq.pmbus.get_rails", lambda: {"VCCINT": rail, "3V3": Rail("3V3")})
    (meter,) = pmbus.find_rails()
    return meter


def ina226_meter(load, monkeypatch, tmp_path, shunt_ohm=0.01, volt=12.0):
    class Bus:
        """The chip's registers as SMBus brings them: low byte first."""

        def __init__(self, number):
            assert number == 1

        def read_word_data(self, address, register):
            assert address == 0x40
            shunt = round(load.power_w() / volt * shunt_ohm / 2.5e-6)
            words = {0x00: 0x4127, 0x01: shunt, 0x02: round(volt / 1.25e-3), 0xFE: 0x5449, 0xFF: 0x2260}
            value = words[register] & 0xFFFF
            return int.from_bytes(value.to_bytes(2, "big"), "little")

        def close(self):
            pass

    monkeypatch.setattr("smbus2.SMBus", Bus)
    return open_ina226(f"1,0x40,{shunt_ohm}")


def joulescope_meter(load, monkeypatch, tmp_path):
    """A device that calls back with the package's statistics; the energy begins anywhere."""

    class Device:
        def open(self):
            pass

        def parameter_set(self, name, value):
            assert (name, value) == ("i_range", "auto")

        def statistics_callback_register(self, callback, source):
            self.callback = callback
            self.tell()

        def statistics_callback_unregister(self, callback, source):
            pass

        def tell(self):
            self.callback({"accumulators": {"energy": {"value": load.energy_j() + 3.25, "units": "J"}}})

        def close(self):
            pass

    device = Device()
    monkeypatch.setitem(
        sys.modules, "joulescope", SimpleNamespace(scan_require_one=lambda name, config: device)
    )
    monkeypatch.setattr(joulescope, "time", SimpleNamespace(monotonic=lambda: load.now_s))
    meter = open_joulescope()
    load.before_sample = device.tell
    return meter


def _files(folder: str, files: dict[str, Callable[[], bytes]]) -> Callable[[str], bytes | None]:
    def read(path: str) -> bytes | None:
        content = files.get(path.removeprefix(f"{folder}/")) if path.startswith(folder) else None
        return content() if content else None

    return read


METERS = {
    "hwmon": (hwmon_meter, 0.15),
    "rapl": (rapl_meter, 0.05),
    "pmbus": (pmbus_meter, 0.1),
    "ina226": (ina226_meter, 0.02),
    "joulescope": (joulescope_meter, 0.5),
}


def sampled(load, meter, rng) -> Recording:
    """One sample a period, with jitter, and 1 % of them dropped."""
    recorder = Recorder(meter, clock=lambda: load.now_s, wall=lambda: load.now_s)
    for period in range(PERIODS):
        load.now_s = (period + rng.uniform(-0.2, 0.2) + 0.5) * load.period_s
        if rng.random() > 0.01:
            getattr(load, "before_sample", lambda: None)()
            recorder.take()
    return recorder.recording()


def assert_energy(recording, load, *, start, stop):
    start_s, stop_s = start * load.period_s, stop * load.period_s
    window = recording.window(start_s, stop_s)
    truth_j = load.energy_j(stop_s) - load.energy_j(start_s)
    assert abs(window.energy_j / truth_j - 1) < 0.01
    assert window.gaps == ()


@pytest.mark.parametrize("waveform", [steps, ramps, noise])
@pytest.mark.parametrize("kind", METERS)
def test_integral_is_right_to_a_percent(rng, monkeypatch, tmp_path, kind, waveform):
    make, period_s = METERS[kind]
    load = Load(period_s=period_s, powers_w=waveform(rng))
    meter = make(load, monkeypatch, tmp_path)
    assert meter.period_s == period_s
    recording = sampled(load, meter, rng)
    for start, stop in ((1, PERIODS - 1), (100.3, 612.7)):
        assert_energy(recording, load, start=start, stop=stop)
    if meter.counts_energy and meter.wraps_at_j:
        assert (np.diff(recording.values) < 0).any()  # it did wrap


@pytest.mark.parametrize("columns", [("power_w",), ("voltage_v", "current_a")])
@pytest.mark.parametrize("waveform", [steps, ramps, noise])
def test_a_logs_integral_is_right_to_a_percent(rng, tmp_path, waveform, columns):
    load = Load(period_s=0.05, powers_w=waveform(rng))
    path = tmp_path / "log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time_s", *columns])
        for period in range(PERIODS):
            load.now_s = (period + rng.uniform(-0.2, 0.2) + 0.5) * load.period_s
            if rng.random() > 0.01:
                power = load.power_w()
                values = [power] if len(columns) == 1 else [5.0, power / 5.0]
                writer.writerow([repr(load.now_s + 1e9), *values])
    recording = read_csv_log(path).recording(offset_s=1e9)
    assert_energy(recording, load, start=1, stop=PERIODS - 1)


def test_a_simulated_boards_sensor_is_read_as_a_real_one_and_says_what_it_is(tmp_path):
    """The same files natively, as on the board itself; the boards' tests read them remotely."""
    busy = SimpleNamespace(s=0.0)
    sensor = SimulatedSensor(lambda: busy.s)
    chip = tmp_path / "hwmon0"
    chip.mkdir()
    for path, content in sensor.files(str(chip), "ina226_u183").items():
        Path(path).write_bytes(content() if callable(content) else content)
    (meter,) = find_hwmon(read_local_file, root=str(tmp_path))
    assert (meter.name, meter.origin) == ("simulated_ina226_u183", "simulated")
    assert meter.read().value == PowerModel().idle_w
    (chip / "name").write_text("ina226_u183\n")
    (real,) = find_hwmon(read_local_file, root=str(tmp_path))
    assert real.origin == "measured"
    (chip / "power1_input").unlink()
    with pytest.raises(EnergyError, match=r"^sensor ina226_u183 is gone: no file .*power1_input$"):
        real.read()


def test_a_negative_current_is_negative(monkeypatch, tmp_path):
    load = Load(period_s=0.02, powers_w=np.full(FINE, -1.5))
    assert ina226_meter(load, monkeypatch, tmp_path).read().value == pytest.approx(-1.5, abs=1e-3)


def test_recording_goes_on_in_a_thread_of_its_own():
    class Counting:
        name, origin, period_s, counts_energy, wraps_at_j = "counting", "measured", 0.05, False, None
        threads: set = set()  # noqa: RUF012

        def read(self):
            from e2train.energy.meters import Reading

            self.threads.add(threading.current_thread().name)
            return Reading(2.0)

        def close(self):
            pass

    meter = Counting()
    with Recorder(meter) as recorder:
        recorder.mark = 4
        while len(recorder.recording().times_s) < 20:
            pass
    recording = recorder.recording()
    assert meter.threads == {"meter", threading.current_thread().name}
    assert (np.diff(recording.times_s) > 0).all()
    assert recording.marks[0] == -1
    assert recording.marks[-1] == 4
    start_s, stop_s = recording.times_s[[0, -1]]
    assert recording.window(start_s, stop_s).energy_j == pytest.approx(2 * (stop_s - start_s))
