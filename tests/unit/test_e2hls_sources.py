# SPDX-License-Identifier: Apache-2.0
"""Which file an error is in, and what is not there: a source, the compiler."""

from pathlib import Path

import pytest
from checked_flow import lower
from e2hls.base.clang import INCLUDE_DIR
from e2hls.base.errors import HlsError
from e2hls.base.kernel import Kernel

HEAD = "#include <ap_int.h>\n#include <hls_stream.h>\nusing In = hls::stream<ap_int<16>>;\n"
TOP = 'extern "C" void k(In& x_in, In& y_out) {\n'


def test_places_in_included_headers_are_told(tmp_path: Path) -> None:
    (tmp_path / "part.hpp").write_text(
        "#pragma once\ntemplate <typename T>\nT half(T x) {\n  return x * 0.5;\n}\n"
    )
    source = tmp_path / "k.cpp"
    source.write_text(f'{HEAD}#include "part.hpp"\n{TOP}  y_out.write(half<int>(x_in.read()));\n}}\n')
    with pytest.raises(HlsError) as raised:
        lower(Kernel("k", source))
    want = "4:10: floating point is not supported; use ap_int with a scale of your own"
    assert str(raised.value) == f"{tmp_path / 'part.hpp'}:{want}"


def test_equal_sources_in_two_folders_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "k.cpp").write_text(
            HEAD + TOP + "  y_out.write(x_in.read().to_int() * 1.5f > 2);\n}\n"
        )
        monkeypatch.chdir(tmp_path / name)
        for source in (Path("k.cpp"), tmp_path / name / "k.cpp"):
            with pytest.raises(HlsError, match="floating point") as raised:
                lower(Kernel("k", source))
            assert str(raised.value).startswith(f"{source}:5:")


def test_missing_source(tmp_path: Path) -> None:
    with pytest.raises(HlsError) as raised:
        lower(Kernel("k", tmp_path / "k.cpp"))
    assert str(raised.value) == f"cannot read {tmp_path / 'k.cpp'}: No such file or directory"


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "k.cpp"
    source.write_text(HEAD + TOP + "  y_out.write(x_in.read());\n}\n")
    monkeypatch.setattr("e2hls.base.clang._zig", lambda: tmp_path / "zig")
    with pytest.raises(HlsError) as raised:
        lower(Kernel("k", source))
    assert str(raised.value) == f"cannot run {tmp_path / 'zig'}: No such file or directory"


def test_own_headers_are_where_the_package_says() -> None:
    assert (INCLUDE_DIR / "ap_int.h").is_file()
