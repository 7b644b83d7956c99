# SPDX-License-Identifier: Apache-2.0
"""Turns ``#pragma HLS`` lines into marker calls that survive compilation, line for line.

The kernel and every header that it includes from its own folders are copied with the pragmas replaced;
a ``#line`` directive keeps the original file and line in all that the compiler reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from e2hls.errors import HlsError
from e2hls.ir import Loc

__all__ = ["Sources", "rewrite_sources"]

_PRAGMA = re.compile(r"^(?P<indent>\s*)#\s*pragma\s+HLS\s+(?P<kind>\w+)(?P<rest>.*)$", re.I)
_INCLUDE = re.compile(r'^(?P<head>\s*#\s*include\s*)(?P<open>["<])(?P<name>[^">]+)[">]')
_LOOP = re.compile(r"\b(?:for|while|do)\b")
_LABELLED = re.compile(r"(?P<label>[A-Za-z_]\w*)\s*:\s*(?:\n\s*)*(?=(?:for|while|do)\b)")
_KEY_VALUE = re.compile(r"(\w+)\s*=\s*([\w.()+*/-]+)")

# What each pragma takes; a name that is not here is an error, so that nothing is ignored in silence.
_IGNORED = {
    "INLINE",
    "LOOP_TRIPCOUNT",
    "BIND_STORAGE",
    "BIND_OP",
    "LOOP_FLATTEN",
    "TOP",
    "AGGREGATE",
    "RESOURCE",
}
_OPTIONS: Mapping[str, frozenset[str]] = {
    "PIPELINE": frozenset({"II", "STYLE"}),
    "UNROLL": frozenset({"FACTOR"}),
    "DATAFLOW": frozenset(),
    "ARRAY_PARTITION": frozenset({"VARIABLE", "DIM", "TYPE"}),
    "STREAM": frozenset({"VARIABLE", "DEPTH", "TYPE"}),
    "DEPENDENCE": frozenset({"VARIABLE", "TYPE", "DIRECTION", "DEPENDENT"}),
    "INTERFACE": frozenset({"PORT", "MODE"}),
}


@dataclass(slots=True)
class Sources:
    """The rewritten copies: ``main`` to compile, and the names of the loops they hold."""

    main: Path
    files: dict[Path, Path] = field(default_factory=dict)  # original -> copy
    labels: dict[tuple[str, int], str] = field(default_factory=dict)  # (file, line of the loop) -> its label


def rewrite_sources(source: Path, include_dirs: tuple[Path, ...], folder: Path) -> Sources:
    """Copy ``source`` and what it includes from its own folder or ``include_dirs`` into ``folder``.

    Raises: HlsError for an unreadable source or a pragma that this flow does not take.
    """
    sources = Sources(main=folder / f"0_{source.name}")
    todo = [source]
    sources.files[source] = sources.main
    while todo:
        path = todo.pop()
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise HlsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
        lines = [f'#line 1 "{path}"']
        for line, is_code, number in _logical_lines(text):
            included = _included(line, path, include_dirs) if is_code else None
            if included is not None:
                if included not in sources.files:
                    sources.files[included] = folder / f"{len(sources.files)}_{included.name}"
                    todo.append(included)
                line = f'#include "{sources.files[included]}"'
            elif is_code:
                line = _marker(line, Loc(str(path), number))
            lines.append(line)
        sources.files[path].write_text("\n".join(lines) + "\n")
        sources.labels |= _labels(text, str(path))
    return sources


def _logical_lines(text: str) -> Iterator[tuple[str, bool, int]]:
    """Each line, whether it starts outside of comments, and its number; a continued pragma is joined."""
    in_comment = False
    joined: str | None = None
    empty = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if joined is not None:
            joined, empty = joined + " " + line.rstrip("\\ "), empty + 1
            if not line.rstrip().endswith("\\"):
                yield joined, True, number - empty
                yield from (("", False, number) for _ in range(empty))
                joined = None
            continue
        if not in_comment and _PRAGMA.match(line) and line.rstrip().endswith("\\"):
            joined, empty = line.rstrip("\\ "), 0
            continue
        yield line, not in_comment, number
        in_comment = _ends_in_comment(line, in_comment)


def _ends_in_comment(line: str, in_comment: bool) -> bool:
    for token in re.finditer(r'//|/\*|\*/|"(?:[^"\\]|\\.)*"', line):
        if token[0] == "*/":
            in_comment = False
        elif not in_comment and token[0] == "/*":
            in_comment = True
        elif not in_comment and token[0] == "//":
            break
    return in_comment


def _included(line: str, path: Path, include_dirs: tuple[Path, ...]) -> Path | None:
    found = _INCLUDE.match(line)
    if found is None:
        return None
    folders = ((path.parent,) if found["open"] == '"' else ()) + include_dirs
    return next((folder / found["name"] for folder in folders if (folder / found["name"]).is_file()), None)


def _labels(text: str, file: str) -> dict[tuple[str, int], str]:
    labels = {}
    for found in _LABELLED.finditer(text):
        if found["label"] not in ("default", "public", "private", "protected"):
            labels[file, text.count("\n", 0, found.end()) + 1] = found["label"]
    return labels


def _marker(line: str, loc: Loc) -> str:
    found = _PRAGMA.match(line)
    if found is None:
        return line
    loc = Loc(loc.file, loc.line, len(found["indent"]) + 1)
    kind = found["kind"].upper()
    rest = re.sub(r"//.*|/\*.*?\*/", "", found["rest"])
    options = {key.upper(): value for key, value in _KEY_VALUE.findall(rest)}
    flags = {word.lower() for word in re.findall(r"\w+", _KEY_VALUE.sub("", rest))}
    if kind in _IGNORED:
        return ""
    if kind not in _OPTIONS:
        raise HlsError(f"pragma HLS {kind} is not supported; supported: {', '.join(sorted(_OPTIONS))}", loc)
    unknown = sorted(set(options) - _OPTIONS[kind])
    if unknown:
        raise HlsError(f"pragma HLS {kind} does not take {unknown[0].lower()}=", loc)
    return found["indent"] + _statement(kind, options, flags, loc)


def _statement(kind: str, options: Mapping[str, str], flags: set[str], loc: Loc) -> str:
    if kind == "PIPELINE":
        off = "off" in flags
        return "" if off else _call("pipeline", options.get("II", "1"))
    if kind == "UNROLL":
        if "FACTOR" in options:
            raise HlsError("pragma HLS UNROLL factor= is not supported; unroll the whole loop", loc)
        return _call("unroll", "0")
    if kind == "DATAFLOW":
        return "__hls_mark_dataflow();"
    if kind == "INTERFACE":
        return _interface(options, flags, loc)
    variable = _needed(kind, options, "VARIABLE", loc)
    if kind == "STREAM":
        return f"__hls_mark_depth(e2hls::address({variable}), {_needed(kind, options, 'DEPTH', loc)});"
    if kind == "DEPENDENCE":
        if "false" not in flags and options.get("DEPENDENT", "").lower() != "false":
            raise HlsError("pragma HLS DEPENDENCE is taken with false only", loc)
        return f"__hls_mark_independent(e2hls::address({variable}));"
    if flags & {"cyclic", "block"} or options.get("TYPE", "complete").lower() != "complete":
        raise HlsError("pragma HLS ARRAY_PARTITION is taken with complete only", loc)
    return f"__hls_mark_partition(e2hls::address({variable}), {options.get('DIM', '1')});"


def _interface(options: Mapping[str, str], flags: set[str], loc: Loc) -> str:
    mode = options.get("MODE", "").lower()
    port = _needed("INTERFACE", options, "PORT", loc)
    if port == "return" and (mode == "ap_ctrl_none" or "ap_ctrl_none" in flags):
        return ""
    if mode == "axis" or "axis" in flags:
        return f"__hls_mark_axis(e2hls::address({port}));"
    raise HlsError("pragma HLS INTERFACE is taken with axis, and with ap_ctrl_none port=return", loc)


def _needed(kind: str, options: Mapping[str, str], key: str, loc: Loc) -> str:
    if key not in options:
        raise HlsError(f"pragma HLS {kind} needs {key.lower()}=", loc)
    return options[key]


def _call(marker: str, value: str) -> str:
    # Some marked loops run in constant expressions too, where no marker may be called.
    return f"if (!__builtin_is_constant_evaluated()) __hls_mark_{marker}({value});"
