# SPDX-License-Identifier: Apache-2.0
"""What ``import e2train`` gives, and how a package that is missing is named."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import e2train
import pytest
from e2train.config.extras import EXTRAS, install_command
from e2train.devices import open_device
from e2train.nn import offload
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

# A process in which one package cannot be imported.
WITHOUT = """
import sys
sys.modules[{module!r}] = None
sys.argv[1:] = {arguments}
from e2train.__main__ import main
main()
"""


def without(module: str, *arguments: str) -> tuple[int, str]:
    script = WITHOUT.format(module=module, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_the_names_that_users_need():
    assert e2train.__all__ == ["__version__", "offload", "open_device"]
    assert (e2train.offload, e2train.open_device) == (offload, open_device)
    assert set(e2train.__all__) <= set(dir(e2train))
    with pytest.raises(AttributeError, match=r"^module 'e2train' has no attribute 'ofload'$"):
        e2train.ofload  # noqa: B018


def test_importing_loads_nothing_else():
    script = (
        "import sys, e2train; e2train.__version__; print({'numpy', 'torch', 'e2train.nn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_overlays_come_without_llvmlite():
    """Loaded after gRPC, as pynq's client has it, it disturbs what that sends."""
    script = "import sys, e2train.overlay, e2train.devices.own_kernel; print('llvmlite' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_device_is_opened_without_torch():
    script = "import sys; sys.modules['torch'] = None; import e2train; e2train.open_device('spec')"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("typer", ["--help"], "this needs typer; pip install 'e2train[train]'"),
        ("torch", ["bench"], "this needs torch; pip install 'e2train[train]'"),
        ("cocotb_tools", ["verify"], "this needs cocotb_tools; pip install 'e2train[sim]'"),
        (
            *("grpc", ["board", "serve"]),
            "the simulated board needs grpc; PYNQ_REMOTE=1 pip install 'e2train[remote]'",
        ),
    ],
)
def test_a_command_names_what_it_lacks(module, arguments, message):
    assert without(module, *arguments) == (2, f"e2train: {message}\n")


def test_a_device_names_what_it_lacks():
    script = "import sys; sys.modules['torch'] = None; import e2train; e2train.open_device('emulator')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "e2train.devices.protocol.DeviceError: device emulator needs torch; pip install 'e2train[train]'"
    )


def test_extras_bring_the_modules():
    """Of the packages that are installed: the extra that a module is looked for in requires its package."""
    required = {
        (str(part.marker), part.name.lower()) for part in map(Requirement, metadata.requires("e2train"))
    }
    providers = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        for module in set(modules) & set(providers):
            names = [name.lower() for name in providers[module]]
            hits = [marker for marker, name in required if name in names and f'extra == "{extra}"' in marker]
            assert hits or module in ("google", "grpc"), f"{install_command(module)} brings no {module}"


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_pins_are_of_versions_that_every_python_has(python: str) -> None:
    """As far as the packages installed here say which they take."""
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    takes = {each.name.lower(): each.metadata["Requires-Python"] for each in metadata.distributions()}
    pins = [
        pin
        for pin in map(Requirement, lines)
        if not pin.marker or pin.marker.evaluate({"python_version": python})
    ]
    here = [
        pin for pin in pins if takes.get(pin.name.lower()) and metadata.version(pin.name) in pin.specifier
    ]
    assert len(here) > 80
    assert [pin.name for pin in here if f"{python}.20" not in SpecifierSet(takes[pin.name.lower()])] == []
