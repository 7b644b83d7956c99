# SPDX-License-Identifier: Apache-2.0
"""Resident operations as frames of the engine, moved by chains of descriptors over a flat memory."""

from e2train.devices.chains.device import ChainResident
from e2train.devices.chains.streams import StreamResident

__all__ = ["ChainResident", "StreamResident"]
