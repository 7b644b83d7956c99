# SPDX-License-Identifier: Apache-2.0
"""The resident step in C++ on this machine's processor."""

from e2train.devices.native.device import NativeResident

__all__ = ["NativeResident"]
