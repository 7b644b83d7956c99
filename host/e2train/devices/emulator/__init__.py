# SPDX-License-Identifier: Apache-2.0
"""The engine's integers from torch: exact, fast on a CPU, and with no hardware behind them."""

from e2train.devices.emulator.device import Emulator

__all__ = ["Emulator"]
