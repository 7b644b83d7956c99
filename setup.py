# SPDX-License-Identifier: Apache-2.0
"""Which folders are installed, and where; MANIFEST.in says which files, pyproject.toml the rest."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

PACKAGES = {"host": "e2train", "hls": "e2hls", "sim": "e2sim"}
# Read as files through e2hls.sources.source_folder, which also finds them in a checkout.
SOURCES = (
    *("bitstreams", *sorted(str(path.parent) for path in Path("bitstreams").glob("*/board.toml"))),
    *("hls/include", "hls/include/etc", "hls/kernels", "sim/benches", "sim/soc"),
)

packages = [
    name
    for root, top in PACKAGES.items()
    for name in find_namespace_packages(root, include=[top, f"{top}.*"], exclude=["*__pycache__*"])
]
sources = {f"e2hls.sources.{folder.replace('/', '.')}": folder for folder in SOURCES}
setup(
    packages=[*packages, *sources],
    package_dir={top: f"{root}/{top}" for root, top in PACKAGES.items()} | sources,
    include_package_data=True,
)
