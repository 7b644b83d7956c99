# SPDX-License-Identifier: Apache-2.0
"""From a kernel's C++ to LLVM IR: the preprocessor, markers for its pragmas, and clang without its passes."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from e2hls.base.clang import INCLUDE_DIR, WARNINGS, run_clang
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend.llvm_text import split_operands
from e2hls.frontend.translation_unit import TranslationUnit, place_markers

__all__ = ["INTERVALS", "accesses", "compile_source", "preprocess"]

# Of the targets, AArch64 passes numbers of any width by value: the IR has no traces of a calling convention.
_SYNTHESIS = (
    *(
        "-target",
        "aarch64-linux-gnu",
        "-fsigned-char",
        "-Xclang",
        "-fexperimental-max-bitint-width=65536",
        "-std=c++20",
        "-O1",
    ),
    *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    "-D_LIBCPP_ENABLE_CXX17_REMOVED_UNARY_BINARY_FUNCTION",  # which kernels of C++14 use
)
# As Microsoft's compiler does, and Vitis HLS, expand the macros in a pragma.
_PREPROCESS = ("-E", "-fms-extensions", "-U_MSC_EXTENSIONS")
_PRAGMA = r"^[ \t]*#[ \t]*pragma[ \t]+HLS[ \t]+{}\b[^\n]*"
INTERVALS = "II"  # what a kernel may leave out of its pragmas besides kinds of them
_INTERVAL = re.compile(
    r"^([ \t]*#[ \t]*pragma[ \t]+HLS[ \t]+PIPELINE\b[^\n]*?)\bII[ \t]*=[ \t]*[^\s]+", re.M | re.I
)
_EMIT = (
    *WARNINGS,
    "-Werror=global-constructors",  # nothing runs before the first call
    *("-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm"),
    *("-g", "-fstandalone-debug", "-fno-discard-value-names"),
)


def compile_source(kernel: Kernel) -> tuple[TranslationUnit, str]:
    """The kernel's translation unit and its LLVM IR as text.

    Raises: HlsError for what clang rejects, with its place in the source.
    """
    with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
        return _compile(kernel, Path(folder))


def preprocess(kernel: Kernel) -> str:
    """The text of the translation unit as synthesis sees it, pragmas and line markers included.

    Raises: HlsError where the source or a header cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
        return _preprocess(kernel, Path(folder))


def _preprocess(kernel: Kernel, folder: Path) -> str:
    try:
        kernel.source.open("rb").close()
    except OSError as error:
        raise HlsError(f"cannot read {kernel.source}: {error.strerror}") from None
    preprocessed = folder / "kernel.ii"
    run_clang([*_options(folder), *_PREPROCESS, *_read(kernel), "-o", preprocessed])
    return preprocessed.read_text(errors="surrogateescape")


def accesses(kernel: Kernel, function: str) -> dict[str, str]:
    """What a function does with what its pointers lead to, by parameter: read, write, both or nothing.

    Raises: HlsError for what clang rejects.
    """
    with tempfile.TemporaryDirectory(prefix="e2hls-") as made:
        folder = Path(made)
        output = folder / "kernel.ll"
        emit = ("-w", "-S", "-emit-llvm", "-fno-discard-value-names", "-o", str(output))
        run_clang([*_options(folder), *emit, *_read(kernel)])
        text = _plain_name(output.read_text(), function)
    head = re.search(rf"^define [^@]*@{function}\((.*)\)", text, re.M)
    found = {}
    for parameter in split_operands(head[1]) if head else ():
        name = re.search(r"%(\S+)$", parameter)
        if name is None or not parameter.startswith("ptr "):
            continue
        kinds = (("readonly", "read"), ("writeonly", "write"), ("readnone", "nothing"))
        words = parameter.split()
        found[name[1]] = next((kind for word, kind in kinds if word in words), "both")
    return found


def _options(folder: Path) -> tuple[str, ...]:
    # No build is another's in zig's cache: that takes equal files in two folders for one, and does not see a
    # new header that lies before the one it knows.
    return (*_SYNTHESIS, f"-DE2HLS_BUILD={folder.name}")


def _read(kernel: Kernel) -> tuple[str, ...]:
    paths = [f"-I{each}" for each in (*kernel.include_dirs, INCLUDE_DIR)]
    markers = ("-include", str(INCLUDE_DIR / "hls_pragma.h"))
    sources = ("-x", "c++", str(kernel.source))
    return ("-D__SYNTHESIS__", "-DNDEBUG", *kernel.macros, *paths, *markers, *sources)


def _compile(kernel: Kernel, folder: Path) -> tuple[TranslationUnit, str]:
    """The kernel with markers for its pragmas, and the LLVM IR that clang makes of it."""
    text = _preprocess(kernel, folder)
    for kind in kernel.left_out:
        if kind == INTERVALS:
            text = _INTERVAL.sub(r"\1", text)
        else:
            text = re.sub(_PRAGMA.format(kind), "", text, flags=re.M | re.I)
    unit = place_markers(text)
    marked, output = folder / "kernel.ii", folder / "kernel.ll"
    marked.write_text(unit.text, errors="surrogateescape")
    emit = (*_options(folder), *_EMIT, "-o", str(output))
    try:
        warnings = run_clang([*emit, marked])
    except HlsError as error:
        _compile_alone([*emit, *_read(kernel)])
        raise unit.explain(error) from None
    unit.notes += (f"{loc}: {text}" for loc, text in warnings if (loc.file, loc.line) not in unit.pragmas)
    return unit, _plain_name(output.read_text(), kernel.name)


def _plain_name(text: str, name: str) -> str:
    """The LLVM IR with the top function under the name that the source calls it by."""
    if re.search(rf"^define [^@]*@{name}\(", text, re.M):
        return text
    # The definition of a function outside of any class or namespace.
    mangled = re.compile(rf"^define [^@]*@(_Z{len(name)}{name}\w*)\(", re.M).findall(text)
    return re.sub(rf"(?<=[@\"]){mangled[0]}\b", name, text) if len(mangled) == 1 else text


def _compile_alone(arguments: list[str]) -> None:
    """Compile the source as it is, without its pragmas."""
    try:
        run_clang(arguments)
    except HlsError as error:
        if "requires a global " not in error.message:
            raise
        raise HlsError(
            "this variable is initialised by code, but no code runs before the kernel's first call; make "
            "constexpr what initialises it",
            error.loc,
        ) from None
