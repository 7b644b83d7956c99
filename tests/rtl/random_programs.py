# SPDX-License-Identifier: Apache-2.0
"""Random kernels: the RTL must equal the native build for each, under random stalls.

python tests/rtl/random_programs.py --count 1000 --seed 1    for hours; prints the seed of what fails
python tests/rtl/random_programs.py --show 17                the kernel of one seed

Kernels are built in batches, as processes of one design: headers, tools and simulation then start once.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.base.rtl_design import RtlDesign, RtlOptions
from e2hls.native import build_native
from e2hls.pipeline import generate, lower
from e2hls.simulation.harness import build_simulation, from_words, random_words, to_words
from random_kernels import HEAD, RandomKernel, random_kernel

BATCH = 20
CALLS = 5
CRASHERS = Path(__file__).parents[2] / "build" / "crashers"
EQUAL, DIFFERENT = "equal", "RTL and native build differ"


def source_of(kernels: Sequence[RandomKernel]) -> str:
    """One design with a process, or several, for each kernel."""
    streams = ("hls::stream<ap_int<16>>& x{}_in", "hls::stream<ap_int<40>>& y{}_out")
    ports = ", ".join(stream.format(at) for at in range(len(kernels)) for stream in streams)
    calls = (f"  {kernel.name}(x{at}_in, y{at}_out);" for at, kernel in enumerate(kernels))
    lines = (line for kernel in kernels for line in kernel.lines)
    top = (f'extern "C" void kernels({ports}) {{', "  #pragma HLS DATAFLOW", *calls, "}")
    return HEAD + "\n".join([*lines, *top]) + "\n"


def check(seeds: Sequence[int], folder: Path) -> dict[int, str]:
    """By seed: EQUAL, DIFFERENT, or why the flow refused the kernel. The sources lie in ``folder``."""
    if not seeds:
        return {}
    source = folder / f"{seeds[0]}-{len(seeds)}" / "kernels.cpp"
    source.parent.mkdir(parents=True)
    kernels = [random_kernel(seed) for seed in seeds]
    source.write_text(source_of(kernels))
    kernel = Kernel("kernels", source)
    try:
        design = generate(lower(kernel), RtlOptions(), source.parent / "rtl")
    except HlsError as error:
        return _without(seeds, kernels, error, folder)
    return _compare(seeds, kernels, kernel, design, source.parent)


def _without(
    seeds: Sequence[int], kernels: Sequence[RandomKernel], error: HlsError, folder: Path
) -> dict[int, str]:
    """The others without the one that was refused; where the message does not say which one, by halves."""
    if len(seeds) == 1:
        return {seeds[0]: str(error)}
    if error.loc is None:
        half = len(seeds) // 2
        return check(seeds[:half], folder) | check(seeds[half:], folder)
    line, at = error.loc.line - HEAD.count("\n"), 0
    while at + 1 < len(kernels) and line > len(kernels[at].lines):
        line -= len(kernels[at].lines)
        at += 1
    rest = [seed for seed in seeds if seed != seeds[at]]
    return {seeds[at]: str(error)} | check(rest, folder)


def _compare(
    seeds: Sequence[int], kernels: Sequence[RandomKernel], kernel: Kernel, design: RtlDesign, folder: Path
) -> dict[int, str]:
    ports = {port.name: port for port in design.report.ports}
    words = {
        f"x{at}_in": random_words(random.Random(seed), each.reads * CALLS, 16)
        for at, (seed, each) in enumerate(zip(seeds, kernels, strict=True))
    }
    native = build_native(kernel).run({name: to_words(given, ports[name]) for name, given in words.items()})
    want = {name: from_words(found, ports[name]) for name, found in native.items()}
    counts = {name: len(found) for name, found in want.items()}
    simulation = build_simulation(design, folder / "sim")
    results = dict.fromkeys(seeds, EQUAL)
    for idle, stall in ((0.0, 0.0), (0.5, 0.5)):
        run = simulation.attempt(words, counts, seed=seeds[0], idle=idle, stall=stall, quiet_cycles=100_000)
        for at, (seed, each) in enumerate(zip(seeds, kernels, strict=True)):
            expected, got = want[f"y{at}_out"], run.outputs[f"y{at}_out"]
            if (got[: len(expected)] if each.several else got) != expected:
                results[seed] = f"{DIFFERENT}: {run.fault}" if run.fault else DIFFERENT
    return results


def main() -> int:
    """Run seeds until the count is reached; failing kernels stay under build/crashers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=BATCH)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--batch", type=int, default=BATCH, help="kernels per design")
    parser.add_argument("--show", type=int, help="print the kernel of this seed and stop")
    options = parser.parse_args()
    if options.show is not None:
        print(source_of([random_kernel(options.show)]))
        return 0
    failures = 0
    end = options.seed + options.count
    for first in range(options.seed, end, options.batch):
        seeds = range(first, min(first + options.batch, end))
        folder = Path(tempfile.mkdtemp(prefix=f"random-{first}-"))
        try:
            results = check(seeds, folder)
        except Exception as error:
            results = dict.fromkeys(seeds, f"FAILED: {error}"[:300])
        for seed, result in results.items():
            print(seed, result, flush=True)
        if all(re.match(f"{EQUAL}|.*:", result) and DIFFERENT not in result for result in results.values()):
            shutil.rmtree(folder)
            continue
        failures += 1
        kept = CRASHERS / f"random-{first}"
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        print(f"see {kept}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
