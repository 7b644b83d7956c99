# SPDX-License-Identifier: Apache-2.0
"""From a kernel's C++ to LLVM IR: the preprocessor, markers for its pragmas, and clang without its passes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from e2hls.base.clang import INCLUDE_DIR, WARNINGS, run_clang
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel
from e2hls.frontend.translation_unit import TranslationUnit, place_markers

__all__ = ["compile_source"]

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
)
# As Microsoft's compiler does, and Vitis HLS, expand the macros in a pragma.
_PREPROCESS = ("-E", "-fms-extensions", "-U_MSC_EXTENSIONS")
_EMIT = (
    *WARNINGS,
    "-Wglobal-constructors",  # nothing runs before the first call
    *("-Xclang", "-disable-llvm-passes", "-S", "-emit-llvm"),
    *("-g", "-fstandalone-debug", "-fno-discard-value-names"),
)


def compile_source(kernel: Kernel) -> tuple[TranslationUnit, str]:
    """The kernel's translation unit and its LLVM IR as text.

    Raises: HlsError for what clang rejects, with its place in the source.
    """
    with tempfile.TemporaryDirectory(prefix="e2hls-") as folder:
        return _compile(kernel, Path(folder))


def _compile(kernel: Kernel, folder: Path) -> tuple[TranslationUnit, str]:
    """The kernel with markers for its pragmas, and the LLVM IR that clang makes of it."""
    source = kernel.source
    try:
        source.open("rb").close()
    except OSError as error:
        raise HlsError(f"cannot read {source}: {error.strerror}") from None
    preprocessed, output = folder / "kernel.ii", folder / "kernel.ll"
    paths = [f"-I{each}" for each in (*kernel.include_dirs, INCLUDE_DIR)]
    # No build is another's in zig's cache: that takes equal files in two folders for one, and does not see a
    # new header that lies before the one it knows.
    options = (*_SYNTHESIS, f"-DE2HLS_BUILD={folder.name}")
    read = ("-D__SYNTHESIS__", *paths, "-include", str(INCLUDE_DIR / "hls_pragma.h"), str(source))
    run_clang([*options, *_PREPROCESS, *read, "-o", preprocessed])
    unit = place_markers(preprocessed.read_text(errors="surrogateescape"))
    preprocessed.write_text(unit.text, errors="surrogateescape")
    emit = (*options, *_EMIT, "-o", str(output))
    try:
        run_clang([*emit, preprocessed])
    except HlsError as error:
        # What is right in a macro may draw a warning where that is expanded: the source itself decides.
        _compile_alone([*emit, *read])
        if "[-Werror" not in error.message:
            raise unit.explain(error) from None
        run_clang([*emit, "-w", preprocessed])
    return unit, output.read_text()


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
