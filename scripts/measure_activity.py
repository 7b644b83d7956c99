# SPDX-License-Identifier: Apache-2.0
"""Switching activity of the engine in one training step: full gradients, and each PSG mode.

Verilator counts, in SAIF, how often every signal bit of the RTL changes. Toggles are a relative proxy of
dynamic power: they know no capacitances, and no joules follow from them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from e2sim.activity import read_toggles
from e2train.config import load_config
from e2train.devices.rtl import RtlDevice
from e2train.nn import Group, OffloadContext
from e2train.train import PRESETS, Session, deterministic, train

RUNS = {"full": {"method": "signsgd", "sign_scale": "none"}} | {
    mode: {"method": "psg", "psg_mode": mode} for mode in ("resolve", "sparsify", "predict")
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="digits", help="model and data (default: %(default)s)")
    parser.add_argument("--board", default="pynq_z2", help="configuration (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="images of the step (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=1, help="levels of modules shown (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON line per run")
    options = parser.parse_args()
    found: dict[str, Counter[str]] = {}
    with RtlDevice(load_config(options.board), instances=1, activity=True) as device:
        for name, settings in RUNS.items():
            found[name] = step_toggles(device, options, settings)
            if options.json:
                print(json.dumps({"run": name, "total": found[name].total()} | found[name]), flush=True)
    if not options.json:
        print(table(found))


def step_toggles(device: RtlDevice, options: argparse.Namespace, settings: dict[str, str]) -> Counter[str]:
    """Toggles of one step by module."""
    config = PRESETS[options.preset].changed(execution="offload", batch=options.batch, steps=1, **settings)
    context = OffloadContext(device=device, psg=config.psg if settings["method"] == "psg" else None)
    with tempfile.TemporaryDirectory() as folder, deterministic(1):
        session = Session.start(config, context, context.ledger, Group())
        path = Path(folder) / "step.saif"
        device.record_activity(path)
        next(train(session))
        device.record_activity(None)
        toggles: Counter[str] = Counter()
        for instance, count in read_toggles(path).items():
            toggles["/".join(instance.split("/")[1 : 1 + options.depth]) or "(top)"] += count
    return toggles


def table(found: dict[str, Counter[str]]) -> str:
    """Markdown: millions of toggles by module, and each run's total as a share of the first."""
    modules = sorted({module for toggles in found.values() for module in toggles})
    lines = ["| module | " + " | ".join(found) + " |", "|---" * (1 + len(found)) + "|"]
    for module in modules:
        lines.append(f"| {module} | " + " | ".join(f"{t[module] / 1e6:.2f} M" for t in found.values()) + " |")
    totals = [toggles.total() for toggles in found.values()]
    lines.append("| all | " + " | ".join(f"{total / 1e6:.2f} M" for total in totals) + " |")
    lines.append("| share of full | " + " | ".join(f"{total / totals[0]:.3f}" for total in totals) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
