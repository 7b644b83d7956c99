# SPDX-License-Identifier: Apache-2.0
"""The engine of one configuration: its C++ source, and its RTL at the clock of its board."""

from __future__ import annotations

from pathlib import Path

import e2hls
from e2hls.base.cache import cached, content_key
from e2hls.sources import source_folder

from e2train.config import EngineConfig, config_header
from e2train.devices.protocol import DeviceError

__all__ = ["KERNELS", "engine_kernel", "engine_rtl", "rtl_options"]

KERNELS = source_folder("hls/kernels")


def engine_kernel(cfg: EngineConfig) -> e2hls.Kernel:
    """The engine with ``engine_config.hpp`` of this configuration on its include path.

    Raises: DeviceError when the kernels' sources are not there; HlsError when the cache is not writable.
    """
    source = KERNELS / "engine_top.cpp"
    if not source.is_file():
        raise DeviceError(f"no kernel source {source}: install e2train again, it is not complete")
    header = config_header(cfg)

    def write(folder: Path) -> None:
        (folder / "engine_config.hpp").write_text(header, encoding="utf-8")

    folder = cached("config", content_key(cfg.name, header), write)
    return e2hls.Kernel("engine", source, (folder,))


def engine_rtl(cfg: EngineConfig) -> e2hls.RtlDesign:
    """The engine's RTL, scheduled for the clock of this configuration's board.

    Raises: DeviceError and HlsError like engine_kernel; HlsError where a tool is missing.
    """
    return e2hls.build_rtl(engine_kernel(cfg), rtl_options(cfg))


def rtl_options(cfg: EngineConfig) -> e2hls.RtlOptions:
    """How any kernel is built for the board of this configuration."""
    return e2hls.RtlOptions(period_ns=cfg.period_ns, family=cfg.family)
