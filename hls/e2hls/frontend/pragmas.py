# SPDX-License-Identifier: Apache-2.0
"""What each ``#pragma HLS`` means: calls of markers that survive compilation, for pragma_metadata to find."""

from __future__ import annotations

import re
from collections.abc import Mapping

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.dependence import DEPENDENCE_WORDS, check_dependence

__all__ = ["KEY_VALUE", "marker"]

# A value may be an expression, with blanks only in parentheses, and names may be listed.
_ITEM = r"(?:\((?:[^()]|\([^()]*\))*\)|[^\s,=()])+"
KEY_VALUE = re.compile(rf"(\w+)\s*=\s*({_ITEM}(?:\s*,\s*{_ITEM})*)")

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
    "DEPENDENCE": frozenset({"VARIABLE", "CLASS", "TYPE", "DIRECTION", "DISTANCE", "DEPENDENT"}),
    "INTERFACE": frozenset({"PORT", "MODE"}),
}
_WORDS: Mapping[str, frozenset[str]] = {
    "PIPELINE": frozenset({"off", "rewind", "enable_flush"}),
    "DATAFLOW": frozenset({"disable_start_propagation"}),
    "ARRAY_PARTITION": frozenset({"complete", "cyclic", "block"}),
    "DEPENDENCE": DEPENDENCE_WORDS,
    "INTERFACE": frozenset({"axis", "ap_ctrl_none", "register", "both"}),
}
_LISTS = ("VARIABLE", "PORT")  # options that may name several


def marker(pragma: str, loc: Loc) -> str:
    """The marker calls, as one expression, for the text after ``#pragma HLS``; "" where it asks for nothing.

    Raises: HlsError for a pragma or an option that this flow does not take.
    """
    kind, rest = pragma.split(None, 1) if len(pragma.split(None, 1)) == 2 else (pragma.strip(), "")
    kind = kind.upper()
    if kind in _IGNORED:
        return ""
    if kind not in _OPTIONS:
        raise HlsError(f"pragma HLS {kind} is not supported; supported: {', '.join(sorted(_OPTIONS))}", loc)
    options, words = _parsed(kind, rest, loc)
    listed = next((key for key in _LISTS if key in options), None)
    names = re.split(r"\s*,\s*", options[listed]) if listed else [""]
    element = next((name for name in names if "[" in name), None)
    if element is not None:
        raise HlsError(f"pragma HLS {kind} names {element}; name the array and choose a dimension", loc)
    calls = (_call(kind, options | ({listed: name} if listed else {}), words, loc) for name in names)
    return ", ".join(call for call in calls if call)


def _parsed(kind: str, text: str, loc: Loc) -> tuple[dict[str, str], set[str]]:
    """The options of a pragma and the words that stand alone."""
    options: dict[str, str] = {}
    for name, value in KEY_VALUE.findall(text):
        key = name.upper()
        if key not in _OPTIONS[kind]:
            raise HlsError(f"pragma HLS {kind} does not take {name.lower()}=", loc)
        if key in options:
            raise HlsError(f"pragma HLS {kind} gives {name.lower()}= twice; write one pragma for each", loc)
        options[key] = value
    words = {word.lower(): None for word in KEY_VALUE.sub(" ", text).split()}
    unknown = next((word for word in words if word not in _WORDS.get(kind, ())), None)
    if unknown is not None:
        raise HlsError(f"pragma HLS {kind} does not take {unknown}", loc)
    return options, set(words)


def _call(kind: str, options: Mapping[str, str], words: set[str], loc: Loc) -> str:
    if kind == "PIPELINE":
        return "" if "off" in words else _guarded(f"pipeline({options.get('II', '1')})")
    if kind == "UNROLL":
        if "FACTOR" in options:
            raise HlsError("pragma HLS UNROLL factor= is not supported; unroll the whole loop", loc)
        return _guarded("unroll(0)")
    if kind == "DATAFLOW":
        return "__hls_mark_dataflow()"
    if kind == "INTERFACE":
        return _interface(options, words, loc)
    if kind == "DEPENDENCE":
        check_dependence(options, words, loc)
        named = options.get("VARIABLE")
        return f"static_cast<void>({named})" if named else ""
    named = _needed(kind, options, "VARIABLE", loc)
    place = f"e2hls::address({named}), e2hls::kStep<decltype({named})>"
    if kind == "STREAM":
        if options.get("TYPE", "fifo").lower() != "fifo":
            raise HlsError("pragma HLS STREAM is taken with type=fifo only", loc)
        return _guarded(f"depth({place}, {_needed(kind, options, 'DEPTH', loc)})")
    if words & {"cyclic", "block"} or options.get("TYPE", "complete").lower() != "complete":
        raise HlsError("pragma HLS ARRAY_PARTITION is taken with complete only", loc)
    return _guarded(f"partition({place}, {options.get('DIM', '1')})")


def _interface(options: Mapping[str, str], words: set[str], loc: Loc) -> str:
    mode = options.get("MODE", "").lower()
    port = _needed("INTERFACE", options, "PORT", loc)
    if port == "return" and (mode == "ap_ctrl_none" or "ap_ctrl_none" in words):
        return ""
    if mode == "axis" or "axis" in words:
        return _guarded(f"axis(e2hls::address({port}))")
    raise HlsError("pragma HLS INTERFACE is taken with axis, and with ap_ctrl_none port=return", loc)


def _needed(kind: str, options: Mapping[str, str], key: str, loc: Loc) -> str:
    if key not in options:
        raise HlsError(f"pragma HLS {kind} needs {key.lower()}=", loc)
    return options[key]


def _guarded(call: str) -> str:
    """A marker's call; no marker may be called where a function runs in a constant expression."""
    return f"(__builtin_is_constant_evaluated() ? void() : __hls_mark_{call})"
