# SPDX-License-Identifier: Apache-2.0
"""Folder order is dependency order: imports only point down."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import e2hls
import e2sim
import e2train
import pytest

LAYERS = ("config", "numerics", "packing", "energy", "overlay", "devices", "runtime", "nn", "train", "cli")
PACKAGE = Path(e2train.__file__).parent
# What each sub-package of the flow may import of the others; the modules beside them join them.
FLOW = {
    "sources": set(),
    "base": {"sources"},
    "ir": {"base"},
    "frontend": {"base", "ir", "passes"},
    "passes": {"base", "ir"},
    "xls_verilog": set(),
    "backend": {"base", "ir", "passes", "xls_verilog"},
    "native": {"base", "ir", "frontend"},
    "simulation": {"base", "native"},
    "checking": {"base", "build", "frontend", "native", "simulation"},
    "report": {"base"},
}
# Imported on demand: torch for the emulator, the flow and the simulator for csim and rtl.
ALLOWED_BELOW_NN = {
    "devices/emulator": {"torch"},
    "devices/native": {"e2hls"},
    "devices/build.py": {"e2hls"},
    "devices/chains/soc.py": {"e2hls", "e2sim"},
    "devices/csim.py": {"e2hls"},
    "devices/own_kernel.py": {"e2hls"},
    "devices/rtl.py": {"e2hls", "e2sim"},
    "devices/simulated_board.py": {"e2sim"},
    "devices/pynq_board.py": {"e2hls", "pynq"},  # of e2hls the folder of the cache
    "devices/remote_board.py": {"grpc", "pynq"},
    "config/records.py": {"tomli"},
    "energy/meters/ina226.py": {"smbus2"},
    "energy/meters/joulescope.py": {"joulescope"},
    "energy/meters/pmbus.py": {"pynq"},
    "overlay/description.py": {"e2hls"},  # of e2hls the place of the descriptions
}


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def upward_imports(package: Path) -> Iterator[str]:
    """Imports of a layer above, as sentences."""
    for path in sorted(package.rglob("*.py")):
        layer = layer_of(path)
        if layer == "__init__":
            continue
        for name in imports(path):
            head, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if head == "e2train" and target in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
                yield f"{path.relative_to(package)} imports {name}"


def test_every_module_belongs_to_a_layer():
    layers = {layer_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert layers <= set(LAYERS)


def test_imports_point_downward():
    assert list(upward_imports(PACKAGE)) == []


def test_an_upward_import_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "numerics.py").write_text("from e2train.train import loop\n")
    assert list(upward_imports(tmp_path)) == ["numerics.py imports e2train.train.loop"]


def test_numpy_is_enough_below_nn():
    found = []
    for layer in LAYERS[: LAYERS.index("nn")]:
        for path in sorted((PACKAGE / layer).rglob("*.py")):
            place = path.relative_to(PACKAGE).as_posix()
            allowed = {"numpy", "e2train"}.union(
                *(extra for prefix, extra in ALLOWED_BELOW_NN.items() if place.startswith(prefix))
            )
            heads = {name.partition(".")[0] for name in imports(path)}
            found += [f"{place} imports {head}" for head in heads - allowed - sys.stdlib_module_names]
    assert found == []


@pytest.mark.parametrize(("package", "forbidden"), [(e2hls, {"e2train", "e2sim"}), (e2sim, {"e2train"})])
def test_the_flow_and_the_simulator_stand_alone(package, forbidden):
    for path in Path(package.__file__).parent.rglob("*.py"):
        heads = {name.partition(".")[0] for name in imports(path)}
        assert not heads & forbidden, f"{path.name} imports {heads & forbidden}"


def test_the_flow_shows_its_order():
    root = Path(e2hls.__file__).parent
    assert {path.name for path in root.glob("*.py")} <= {*("__init__.py", "build.py", "pipeline.py")}
    assert {path.parent.name for path in root.glob("*/__init__.py")} == set(FLOW)
    for name, allowed in FLOW.items():
        for path in (root / name).rglob("*.py"):
            heads = {full.split(".")[1] for full in imports(path) if full.startswith("e2hls.")}
            assert heads <= {name, *allowed}, f"{name}/{path.name} imports {heads - allowed - {name}}"
