# SPDX-License-Identifier: Apache-2.0
"""Every command of README and docs, page by page, but for those that are marked."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from pages import PAGES, ROOT, Block, blocks, write_sources
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the commands are given: scripts, made-up CIFAR data in DIR, images of two classes in IMAGES."""
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    cifar = tmp_path / "DIR" / "cifar-10-batches-py"
    cifar.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {b"data": rng.integers(0, 256, (40, 3072), np.uint8), b"labels": [*range(10)] * 4}
        (cifar / name).write_bytes(pickle.dumps(batch, protocol=2))
    for number in range(20):
        image = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        path = tmp_path / "IMAGES" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path


def environment() -> dict[str, str]:
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("host", "hls", "sim")),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def beside(command: str, folder: Path) -> Iterator[None]:
    """A command that runs on; it has said that it is ready."""
    arguments = ["bash", "-c", f"exec {command}"]
    with subprocess.Popen(arguments, cwd=folder, env=environment(), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline(), command
            yield
        finally:
            process.terminate()


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name, "bash")])
def test_commands_run(name: str, folder: Path) -> None:
    write_sources(name, folder)
    with ExitStack() as stack:
        for block in blocks(name, "bash"):
            if block.reason is not None:
                continue
            if block.background:
                stack.enter_context(beside(block.text.strip(), folder))
            else:
                run(block, folder)
            for archive in folder.glob("build/bitstreams/*.zip"):
                link = folder / "FILE.zip"
                link.unlink(missing_ok=True)
                link.symlink_to(archive)


def run(block: Block, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
