# SPDX-License-Identifier: Apache-2.0
"""Kernels compiled for this machine: the reference that their RTL must equal, word for word."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2hls.base.cache import cached, content_key
from e2hls.base.clang import (
    INCLUDE_DIR,
    SHARED_LIBRARY,
    WARNINGS,
    compiler_id,
    link_shared,
    run_clang,
    system_library,
)
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend.compile import preprocess
from e2hls.frontend.top_function import find_top
from e2hls.ir import SIDES

__all__ = ["NativeKernel", "NativeRun", "Words", "build_native"]

_OPTIONS = (
    *(
        "-std=c++20",
        "-DNDEBUG",
        "-fwrapv",  # the headers count on it; what of a kernel overflows, the RTL may compute otherwise
        "-O3",
        "-fPIC",
        "-c",
        "-fvisibility=hidden",
        "-gline-tables-only",
        "-gdwarf-4",
    ),
    *("-fno-sanitize=undefined", "-fno-sanitize-merge"),
    # Array bounds by the types of arrays, with the index; local ones of what a pointer or reference leads to.
    *("-fsanitize=integer-divide-by-zero,array-bounds,local-bounds", "-fno-sanitize-trap=local-bounds"),
    "-fno-sanitize-recover=array-bounds,local-bounds",
)
# What a check is for, at a price in speed. Loops are not taken to end; they are not unrolled either, nor
# made calls of memcpy: an access beyond an array would be optimised away before local-bounds sees it.
_CHECKS = (
    *("-fsanitize=shift-exponent", "-fno-sanitize-recover=shift-exponent"),
    "-fsanitize=signed-integer-overflow",  # which is noted, see native_overflow.h
    *("-fno-finite-loops", "-fno-unroll-loops", "-mllvm", "-disable-loop-idiom-all"),
)
# Numbers of the headers wrap around.
_IGNORED = "[signed-integer-overflow]\nsrc:{headers}/*\nsrc:/usr/*\n"
_ASSERTIONS = "-DE2HLS_ASSERTIONS"  # see assert.h
_PORTS = "ports.json"  # the names of the top function's parameters
_OWN, _HEADERS = "/@source/", "/@headers/"  # folders in a library's debug information
_MAIN = """\
#include "{source}"

#include <native_harness.h>

#pragma GCC visibility push(default)
E2HLS_NATIVE({name})
#pragma GCC visibility pop
"""
_CHECKED_MAIN = _MAIN.replace("harness", "overflow").replace("({name})", "({name})\nE2HLS_NATIVE_OVERFLOW")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What went through a stream: ``data`` (n, limbs) with the lowest 64 bits first, ``last`` (n,).

    ``sides`` are side channels of AXI beats, by ``keep``, ``strb``, ``user``, ``id`` and ``dest``, each like
    ``data``; what an input lacks is all ones in keep and strb, and else 0.
    """

    data: NDArray[np.uint64]
    last: NDArray[np.bool_]
    sides: Mapping[str, NDArray[np.uint64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.ndim != 2 or self.last.shape != self.data.shape[:1]:
            raise ValueError(
                f"data must be (n, limbs) and last (n,), not {self.data.shape} and {self.last.shape}"
            )


class NativeKernel:
    """A compiled kernel. Every run starts with empty streams of its own, so runs may overlap in threads.

    ``static`` variables inside a kernel keep their values from run to run of one NativeKernel.
    """

    def __init__(self, kernel: Kernel, ports: tuple[str, ...], library: Path) -> None:
        self.kernel = kernel
        self.ports = ports
        self.library = library
        self._library = _open(library)
        if self._library.e2hls_ports() != len(self.ports):
            raise HlsError(
                f"{kernel.source}: {kernel.name} has {self._library.e2hls_ports()} streams, but its "
                f"definition was read as having {len(self.ports)}; write one parameter list without macros"
            )

    def run(self, inputs: Mapping[str, Words]) -> dict[str, Words]:
        """Call the top function until all words of ``inputs`` are used up; every other stream is an output.

        Raises: HlsError for an unknown stream, wrong limbs, or a kernel that wants more words than there are.
        """
        with self.start(inputs) as started:
            return started.finish()

    def start(self, inputs: Mapping[str, Words]) -> NativeRun:
        """Streams that hold ``inputs``, for calls of the top function one by one.

        Raises: HlsError for an unknown stream or wrong limbs.
        """
        for name in inputs:
            if name not in self.ports:
                raise HlsError(f"{self.kernel.name} has no stream {name!r}; it has {', '.join(self.ports)}")
        started = NativeRun(self)
        try:
            for name, words in inputs.items():
                self._push(started.instance, name, words)
        except BaseException:
            started.close()
            raise
        started.inputs = tuple(inputs)
        return started

    def width(self, port: str) -> int:
        """Bits of data in a word of this stream, without TLAST."""
        return int(self._library.e2hls_width(self.ports.index(port)))

    def _push(self, instance: int, name: str, words: Words) -> None:
        port = self.ports.index(name)
        limbs = self._library.e2hls_limbs(port)
        if words.data.shape[1] != limbs:
            raise HlsError(
                f"{self.kernel.name}: words of stream {name} must have {limbs} limbs, "
                f"not {words.data.shape[1]}"
            )
        widths = self._side_widths(port)
        for side, values in words.sides.items():
            if side not in widths:
                raise HlsError(
                    f"{self.kernel.name}: stream {name} has no side channel {side}; "
                    f"it has {', '.join(widths) or 'none'}"
                )
            wanted = (len(words.last), -(-widths[side] // 64))
            if values.shape != wanted:
                raise HlsError(
                    f"{self.kernel.name}: {side} of stream {name} must have the shape {wanted}, "
                    f"not {values.shape}"
                )
        data = np.ascontiguousarray(words.data, np.uint64)
        last = np.ascontiguousarray(words.last, np.bool_)
        sides = {side: np.ascontiguousarray(values, np.uint64) for side, values in words.sides.items()}
        self._library.e2hls_push(
            instance, port, data.ctypes.data, last.ctypes.data, _pointers(sides), len(data)
        )

    def _pop(self, instance: int, name: str) -> Words:
        port = self.ports.index(name)
        count = self._library.e2hls_size(instance, port)
        data = np.zeros((count, self._library.e2hls_limbs(port)), np.uint64)
        last = np.zeros(count, np.bool_)
        widths = self._side_widths(port)
        sides = {side: np.zeros((count, -(-width // 64)), np.uint64) for side, width in widths.items()}
        self._library.e2hls_pop(instance, port, data.ctypes.data, last.ctypes.data, _pointers(sides))
        return Words(data=data, last=last, sides=sides)

    def _place(self, address: int) -> str:
        """``file:line: `` of what ended the run, in the kernel's own folder; empty where it is not known."""
        place = _source_line(self.library, address) if address else ""
        if place.startswith(_OWN):
            place = f"{self.kernel.source.resolve().parent}/{place.removeprefix(_OWN)}"
        return f"{place}: " if place else ""

    def _side_widths(self, port: int) -> dict[str, int]:
        widths = {side: int(self._library.e2hls_side(port, at)) for at, side in enumerate(SIDES)}
        return {side: width for side, width in widths.items() if width}


class NativeRun:
    """A kernel with streams of its own, until it is closed."""

    def __init__(self, kernel: NativeKernel) -> None:
        self._kernel, self._library = kernel, kernel._library
        self.instance = self._library.e2hls_new()
        self.inputs: tuple[str, ...] = ()

    def __enter__(self) -> NativeRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the streams."""
        self._library.e2hls_delete(self.instance)

    def call(self) -> None:
        """Call the top function once.

        Raises: HlsError for a kernel that fails, or wants more words than there are.
        """
        self._check(self._library.e2hls_call(self.instance))

    def finish(self) -> dict[str, Words]:
        """Call it until all inputs are used up; what every other stream holds then.

        Raises: HlsError like ``call``.
        """
        ports = self._kernel.ports
        mask = sum(1 << ports.index(name) for name in self.inputs)
        self._check(self._library.e2hls_run(self.instance, mask))
        return {name: self.take(name) for name in ports if name not in self.inputs}

    def size(self, name: str) -> int:
        """Words that a stream holds."""
        return int(self._library.e2hls_size(self.instance, self._kernel.ports.index(name)))

    def take(self, name: str) -> Words:
        """All words that a stream holds; it is empty afterwards."""
        return self._kernel._pop(self.instance, name)

    def overflow(self) -> str:
        """The first overflow of a number of C++ in a checked build so far, with its place; empty without."""
        noted = getattr(self._library, "e2hls_overflow", None)
        text = noted().decode() if noted else ""
        return f"{self._kernel._place(self._library.e2hls_overflow_place())}{text}" if text else ""

    def _check(self, failed: int) -> None:
        if failed:
            place = self._kernel._place(self._library.e2hls_place(self.instance))
            message = self._library.e2hls_error(self.instance).decode()
            raise HlsError(f"{place}{self._kernel.kernel.name}: {message}")


def build_native(kernel: Kernel, *, unset: str = "", checked: bool = False) -> NativeKernel:
    """Compile a kernel, or take it from the cache.

    ``unset`` is what local variables hold before they are written: anything, or "zero" or "pattern". Runs of
    one that is ``checked`` fail at shifts by too much and at assertions too, note overflows, and are slower.

    Raises: HlsError with the compiler's first error.
    """
    source = kernel.source.resolve()
    filled = (f"-ftrivial-auto-var-init={unset}",) if unset else ()
    checks = (*_CHECKS, *(() if _drops_assertions(kernel) else (_ASSERTIONS,))) if checked else ()
    options = (*_OPTIONS, *checks, *WARNINGS, *filled, *system_library(), *kernel.macros)
    include_dirs = (INCLUDE_DIR, *kernel.include_dirs)
    # One library serves equal sources in any folder; of two prefixes that fit, clang takes the later one.
    prefixes = ((source.parent, _OWN), (INCLUDE_DIR, _HEADERS))
    places = [f"-fdebug-prefix-map={folder}/={name}" for folder, name in prefixes]
    main_text, ignored = (_CHECKED_MAIN, _IGNORED) if checked else (_MAIN, "")

    def build(folder: Path) -> None:
        ports = _port_names(kernel)
        main = folder / "main.cpp"
        main.write_text(main_text.format(source=source, name=kernel.name))
        compiled = folder / "kernel.o"
        arguments = [*options, *places, *(f"-I{path}" for path in include_dirs)]
        if ignored:
            (folder / "ignored.txt").write_text(ignored.format(headers=INCLUDE_DIR))
            arguments.append(f"-fsanitize-ignorelist={folder / 'ignored.txt'}")
        run_clang([*arguments, main, "-o", compiled])
        link_shared([compiled], folder / "kernel.so")
        compiled.unlink()
        (folder / _PORTS).write_text(json.dumps(ports))

    parts = [*_sources(source, include_dirs), *([INCLUDE_DIR / "native_overflow.h"] if checked else ())]
    texts = (kernel.name, source.name, main_text, *filter(None, (ignored,)), _OWN, _HEADERS, compiler_id())
    key = content_key(*texts, options, SHARED_LIBRARY, *parts)
    built = cached("native", key, build)
    ports = tuple(json.loads((built / _PORTS).read_text()))
    return NativeKernel(kernel, ports, built / "kernel.so")


def _drops_assertions(kernel: Kernel) -> bool:
    return any(each.partition("=")[0] == "NDEBUG" for each in kernel.defines)


_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def _sources(source: Path, include_dirs: tuple[Path, ...]) -> list[Path]:
    """The source and all that it includes from its own folder or the given ones, each once."""
    if not source.is_file():
        raise HlsError(f"no kernel source {source}")
    found = [source, INCLUDE_DIR / "native_harness.h", INCLUDE_DIR / "assert.h"]
    todo = list(found)
    while todo:
        path = todo.pop()
        for name in _INCLUDE.findall(path.read_text(errors="replace")):
            places = [folder / name for folder in (path.parent, *include_dirs)]
            target = next((place for place in places if place.is_file()), None)
            if target is not None and target not in found:
                found.append(target)
                todo.append(target)
    return found


def _port_names(kernel: Kernel) -> tuple[str, ...]:
    """The top function's parameter names, in order."""
    top = find_top(preprocess(kernel), kernel.source, kernel.name)
    if not top.only_streams:
        raise HlsError(
            f"every parameter of {kernel.name} must be an hls::stream<...>&, and it returns nothing; "
            "e2train hls check wraps other functions",
            top.loc,
        )
    return tuple(each.name for each in top.parameters)


def _pointers(sides: Mapping[str, NDArray[np.uint64]]) -> Any:
    addresses = [sides[side].ctypes.data if side in sides else None for side in SIDES]
    return (ctypes.c_void_p * len(SIDES))(*addresses)


def _source_line(library: Path, address: int) -> str:
    """``file:line`` of the innermost place outside of the stand-in headers; empty where it is not known."""
    # The address is that behind the call which failed.
    command = ["addr2line", "--inlines", f"--exe={library}", hex(address - 1)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    for line in done.stdout.splitlines():
        place = line.split(" (discriminator")[0]
        if not place.startswith(("?", _HEADERS)):
            return place
    return ""


def _open(path: Path) -> Any:
    # The loader shares a file that it has open, `static` variables and all; a private copy starts afresh.
    try:
        with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
            library = ctypes.CDLL(shutil.copy(path, folder))
    except OSError as error:
        raise HlsError(f"cannot load {path}: {error}; remove its folder to build it again") from None
    handle, size, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "limbs": (integer, [integer]),
        "width": (integer, [integer]),
        "ports": (integer, []),
        "new": (handle, []),
        "delete": (None, [handle]),
        "side": (integer, [integer, integer]),
        "push": (None, [handle, integer, handle, handle, handle, size]),
        "run": (integer, [handle, ctypes.c_uint64]),
        "call": (integer, [handle]),
        "size": (size, [handle, integer]),
        "pop": (None, [handle, integer, handle, handle, handle]),
        "error": (ctypes.c_char_p, [handle]),
        "place": (size, [handle]),
    }
    if hasattr(library, "e2hls_overflow"):
        signatures |= {"overflow": (ctypes.c_char_p, []), "overflow_place": (size, [])}
    for name, (result, arguments) in signatures.items():
        function: Callable[..., Any] = getattr(library, f"e2hls_{name}")
        function.restype, function.argtypes = result, arguments  # type: ignore[attr-defined]
    return library
