# SPDX-License-Identifier: Apache-2.0
"""The build cache: whole folders only, each built once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import e2hls
import pytest
from e2hls.base.cache import cached
from e2hls.base.errors import HlsError
from e2hls.build import _flow


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2TRAIN_CACHE", str(tmp_path))


def test_who_comes_second_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    flock = fcntl.flock

    def noted(file: TextIO, operation: int) -> None:
        if not operation & fcntl.LOCK_NB:
            waits.append(operation)
        flock(file, operation)

    monkeypatch.setattr("fcntl.flock", noted)
    begun, go_on = threading.Event(), threading.Event()
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        begun.set()
        assert go_on.wait(10)
        (folder / "product").write_text("whole")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached, "kind", "key", build)
        assert begun.wait(10)
        second = pool.submit(cached, "kind", "key", build)
        while len(waits) < 2:  # the second has found no product
            assert not second.done()
        go_on.set()
        assert first.result() == second.result() == tmp_path / "kind" / "key"
    assert len(builds) == 1
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == [".key.lock", "key"]
    assert (tmp_path / "kind" / "key" / "product").read_text() == "whole"


def test_a_failed_build_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("made")
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match=r"^no compiler$"):
        cached("kind", "key", fail)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [".key.lock"]
    folder = cached("kind", "key", lambda folder: (folder / "product").touch())
    assert sorted(path.name for path in folder.iterdir()) == [".files.json", "product"]


def write_product(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "product").write_text("whole")
    (folder / "empty").touch()


def test_a_whole_folder_is_not_built_again(tmp_path: Path) -> None:
    folder = cached("kind", "key", write_product)
    (folder / "added").touch()  # by whoever uses it
    assert cached("kind", "key", lambda _: pytest.fail("built again")) == folder


def spoil(folder: Path, how: str) -> None:
    product = folder / "sub" / "product"
    if how == "emptied":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "a file lost":
        product.unlink()
    elif how == "a file cut":
        product.write_text("who")
    elif how == "no list":
        (folder / ".files.json").unlink()
    elif how == "a wrong list":
        (folder / ".files.json").write_text("[")
    elif how == "a list of nothing":
        (folder / ".files.json").write_text("[]")
    else:
        shutil.rmtree(folder)
        folder.write_text("a file")


@pytest.mark.parametrize(
    "how",
    ["emptied", "a file lost", "a file cut", "no list", "a wrong list", "a list of nothing", "no folder"],
)
def test_a_folder_that_is_not_whole_is_built_again(tmp_path: Path, how: str) -> None:
    folder = cached("kind", "key", write_product)
    spoil(folder, how)
    assert cached("kind", "key", write_product) == folder
    assert (folder / "sub" / "product").read_text() == "whole"
    assert json.loads((folder / ".files.json").read_text()) == {"empty": 0, "sub/product": 5}
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == [".key.lock", "key"]


def test_what_a_killed_build_leaves_is_removed_by_the_next_of_any_kind(tmp_path: Path) -> None:
    code = (
        "import time\nfrom e2hls.base.cache import cached\n"
        "def build(folder):\n"
        "    (folder / 'half').touch()\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "cached('other', 'killed', build)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        cached("kind", "first", write_product)
        (scratch,) = (tmp_path / "other").glob(".killed-*")  # it is being built: not touched
        assert (scratch / "new" / "half").exists()
        os.kill(process.pid, signal.SIGKILL)
    assert scratch.exists()
    cached("kind", "second", write_product)
    assert [path.name for path in (tmp_path / "other").iterdir()] == [".killed.lock"]
    assert (cached("other", "killed", write_product) / "sub" / "product").read_text() == "whole"


def test_without_locks_nothing_of_others_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: TextIO, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    scratch = tmp_path / "kind" / ".key-abcdefgh"
    scratch.mkdir(parents=True)
    (tmp_path / "kind" / ".key.lock").touch()

    def build(folder: Path) -> None:
        write_product(folder)
        if not (tmp_path / "kind" / "key").exists():
            cached("kind", "key", write_product)  # another process, meanwhile

    assert (cached("kind", "key", build) / "sub" / "product").read_text() == "whole"
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == [scratch.name, ".key.lock", "key"]


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "kind").touch()
    message = f"cannot write {tmp_path / 'kind'}: File exists; set E2TRAIN_CACHE to a writable folder"
    with pytest.raises(HlsError, match=f"^{re.escape(message)}$"):
        cached("kind", "key", write_product)


def test_the_key_of_rtl_covers_every_folder_of_the_flow() -> None:
    root = Path(e2hls.__file__).parent
    files = {path for suffix in ("py", "sv") for path in root.rglob(f"*.{suffix}")}
    checks = {"simulation", "checking"}
    assert set(_flow()) == {
        path for path in files if path.relative_to(root).parts[0] not in {"sources", *checks}
    }
    folders = {path.parent.name for path in _flow()}
    assert folders >= {"e2hls", "frontend", "ir", "passes", "backend", "lanes", "rtl"}
