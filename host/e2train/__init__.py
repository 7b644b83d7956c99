# SPDX-License-Identifier: Apache-2.0
"""Train CNNs with low-precision convolutions on a PYNQ-class FPGA."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from e2train.devices import open_device
    from e2train.nn import offload

__all__ = ["__version__", "offload", "open_device"]

__version__ = "0.1.0"

# Imported when asked for: a board has no torch.
_HOMES = {"offload": "e2train.nn", "open_device": "e2train.devices"}

if not TYPE_CHECKING:  # other names are errors for a type checker, as they are here

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
