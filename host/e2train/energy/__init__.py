# SPDX-License-Identifier: Apache-2.0
"""Energy: measured by sensors, simulated by a simulated board's, modelled from what was executed."""

from e2train.energy.gauge import PHASES, Gauge, Measured, Phase, gauge, write_samples
from e2train.energy.meters import (
    METER_HELP,
    CsvLog,
    LogSpec,
    Meter,
    ReadFile,
    SensorRow,
    check_meter,
    open_meter,
    read_csv_log,
    sensor_rows,
)
from e2train.energy.model import CostTable, Modelled, Work, load_costs, modelled
from e2train.energy.power_log import PowerLog
from e2train.energy.readings import EnergyError, Gap, Origin, Recording, Window
from e2train.energy.recorder import Recorder

__all__ = [
    "METER_HELP",
    "PHASES",
    "CostTable",
    "CsvLog",
    "EnergyError",
    "Gap",
    "Gauge",
    "LogSpec",
    "Measured",
    "Meter",
    "Modelled",
    "Origin",
    "Phase",
    "PowerLog",
    "ReadFile",
    "Recorder",
    "Recording",
    "SensorRow",
    "Window",
    "Work",
    "check_meter",
    "gauge",
    "load_costs",
    "modelled",
    "open_meter",
    "read_csv_log",
    "sensor_rows",
    "write_samples",
]
