# SPDX-License-Identifier: Apache-2.0
"""One file per kind of meter, all behind one protocol."""

from e2train.energy.meters.csv_log import CsvLog, read_csv_log
from e2train.energy.meters.files import read_local_file
from e2train.energy.meters.find import METER_HELP, LogSpec, SensorRow, check_meter, open_meter, sensor_rows
from e2train.energy.meters.hwmon import HwmonMeter, find_hwmon
from e2train.energy.meters.ina226 import Ina226Meter, open_ina226
from e2train.energy.meters.joulescope import JoulescopeMeter, open_joulescope
from e2train.energy.meters.pmbus import RailMeter, find_rails
from e2train.energy.meters.protocol import Meter, ReadFile, Reading
from e2train.energy.meters.rapl import RaplMeter, find_rapl

__all__ = [
    "METER_HELP",
    "CsvLog",
    "HwmonMeter",
    "Ina226Meter",
    "JoulescopeMeter",
    "LogSpec",
    "Meter",
    "RailMeter",
    "RaplMeter",
    "ReadFile",
    "Reading",
    "SensorRow",
    "check_meter",
    "find_hwmon",
    "find_rails",
    "find_rapl",
    "open_ina226",
    "open_joulescope",
    "open_meter",
    "read_csv_log",
    "read_local_file",
    "sensor_rows",
]
