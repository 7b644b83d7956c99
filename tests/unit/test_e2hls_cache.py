# SPDX-License-Identifier: Apache-2.0
"""The build cache: whole folders only, each built once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2hls.cache import cached


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2TRAIN_CACHE", str(tmp_path))


def test_who_comes_second_waits_for_the_first(tmp_path: Path) -> None:
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
        while len(list((tmp_path / "kind").glob(".key-*"))) < 2:  # the second has found no product
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
    assert [path.name for path in folder.iterdir()] == ["product"]
