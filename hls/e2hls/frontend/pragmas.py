# SPDX-License-Identifier: Apache-2.0
"""What each ``#pragma HLS`` means: calls of markers that survive compilation, for pragma_metadata to find."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from e2hls.base.errors import HlsError, Loc
from e2hls.frontend.dependence import DEPENDENCE_WORDS, check_dependence

__all__ = ["HINTS", "KEY_VALUE", "OPTIONS", "SILENT", "WORDS", "marker", "note"]

# A value may be an expression, with blanks only in parentheses, and names may be listed.
_ITEM = r"(?:\((?:[^()]|\([^()]*\))*\)|[^\s,=()])+"
KEY_VALUE = re.compile(rf"(\w+)\s*=\s*({_ITEM}(?:\s*,\s*{_ITEM})*)")
_CONDITION = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_IF = re.compile(rf"if\s*(?P<condition>{_CONDITION})\s*(?P<rest>.*)", re.I)

# What each pragma takes; a name that is not here is an error, so that nothing is ignored in silence.
SILENT = frozenset(
    {
        "INLINE",
        "LOOP_TRIPCOUNT",
        "BIND_STORAGE",
        "BIND_OP",
        "LOOP_FLATTEN",
        "TOP",
        "AGGREGATE",
        "DATA_PACK",
        "RESOURCE",
    }
)
# Of how fast or how large, never of what comes out.
HINTS = frozenset(
    {
        *("ALIAS", "ALLOCATION", "ARRAY_STENCIL", "CACHE", "DISAGGREGATE", "EXPRESSION_BALANCE"),
        *("FUNCTION_INSTANTIATE", "LATENCY", "LOOP_MERGE", "OCCURRENCE", "PERFORMANCE", "STABLE"),
    }
)
_SPLIT = frozenset({"VARIABLE", "DIM", "TYPE", "FACTOR"})
OPTIONS: Mapping[str, frozenset[str]] = {
    "PIPELINE": frozenset({"II", "STYLE"}),
    "UNROLL": frozenset({"FACTOR", "OFF"}),
    "DATAFLOW": frozenset(),
    "ARRAY_PARTITION": _SPLIT,
    "ARRAY_RESHAPE": _SPLIT,
    "STREAM": frozenset({"VARIABLE", "DEPTH", "TYPE"}),
    "DEPENDENCE": frozenset({"VARIABLE", "CLASS", "TYPE", "DIRECTION", "DISTANCE", "DEPENDENT"}),
    "INTERFACE": frozenset(
        {
            *("PORT", "MODE", "BUNDLE", "CHANNEL", "CLOCK", "DEPTH", "LATENCY", "MAX_READ_BURST_LENGTH"),
            *("MAX_WIDEN_BITWIDTH", "MAX_WRITE_BURST_LENGTH", "NAME", "NUM_READ_OUTSTANDING", "OFFSET"),
            *("NUM_WRITE_OUTSTANDING", "REGISTER_MODE", "STORAGE_IMPL", "STORAGE_TYPE"),
        }
    ),
}
_MODES = frozenset(
    {
        *("axis", "m_axi", "s_axilite", "ap_none", "ap_stable", "ap_vld", "ap_ack", "ap_hs", "ap_ovld"),
        *("ap_fifo", "ap_memory", "bram", "ap_ctrl_none", "ap_ctrl_hs", "ap_ctrl_chain"),
    }
)
_KINDS = ("complete", "block", "cyclic")  # of partitions, by number
WORDS: Mapping[str, frozenset[str]] = {
    "PIPELINE": frozenset({"off", "rewind", "enable_flush"}),
    "UNROLL": frozenset({"off", "region", "skip_exit_check"}),
    "DATAFLOW": frozenset({"disable_start_propagation"}),
    "ARRAY_PARTITION": frozenset(_KINDS),
    "ARRAY_RESHAPE": frozenset(_KINDS),
    "STREAM": frozenset({"off"}),
    "DEPENDENCE": DEPENDENCE_WORDS,
    "INTERFACE": frozenset({*_MODES, "autorestart", "both", "direct_io", "forward", "off", "register"}),
}
_LISTS = ("VARIABLE", "PORT")  # options that may name several


def marker(pragma: str, loc: Loc) -> str:
    """The marker calls, as one expression, for the text after ``#pragma HLS``; "" where it asks for nothing.

    Raises: HlsError for a pragma or an option that this flow does not take.
    """
    condition = _IF.match(pragma.strip())
    if condition:
        call = marker(condition["rest"], loc)
        return call and f"(e2hls::kIf<static_cast<bool>{condition['condition']}> ? ({call}) : void())"
    kind, rest = _name(pragma)
    if kind in SILENT or kind in HINTS:
        return ""
    if kind not in OPTIONS:
        raise HlsError(f"pragma HLS {kind} is not supported; supported: {', '.join(sorted(OPTIONS))}", loc)
    options, words = _parsed(kind, rest, loc)
    listed = next((key for key in _LISTS if key in options), None)
    names = re.split(r"\s*,\s*", options[listed]) if listed else [""]
    element = next((name for name in names if "[" in name), None)
    if element is not None:
        raise HlsError(f"pragma HLS {kind} names {element}; name the array and choose a dimension", loc)
    calls = (_call(kind, options | ({listed: name} if listed else {}), words, loc) for name in names)
    return ", ".join(call for call in calls if call)


def note(pragma: str) -> str:
    """What the user is to know of a pragma that is taken otherwise than Vitis HLS takes it; "" for others."""
    condition = _IF.match(pragma.strip())
    kind, _ = _name(condition["rest"] if condition else pragma)
    if kind in HINTS:
        return f"pragma HLS {kind} is a hint and changes nothing here"
    if kind == "ARRAY_RESHAPE":
        return "pragma HLS ARRAY_RESHAPE is taken as ARRAY_PARTITION: its elements get memories of their own"
    return ""


def _name(pragma: str) -> tuple[str, str]:
    """The pragma's name in capitals, and the rest."""
    kind, _, rest = pragma.strip().partition(" ")
    return kind.upper(), rest


def _parsed(kind: str, text: str, loc: Loc) -> tuple[dict[str, str], set[str]]:
    """The options of a pragma and the words that stand alone."""
    options: dict[str, str] = {}
    for name, value in KEY_VALUE.findall(text):
        key = name.upper()
        if key not in OPTIONS[kind]:
            raise HlsError(f"pragma HLS {kind} does not take {name.lower()}=", loc)
        if key in options:
            raise HlsError(f"pragma HLS {kind} gives {name.lower()}= twice; write one pragma for each", loc)
        options[key] = value
    words = {word.lower(): None for word in KEY_VALUE.sub(" ", text).split()}
    unknown = next((word for word in words if word not in WORDS.get(kind, ())), None)
    if unknown is not None:
        raise HlsError(f"pragma HLS {kind} does not take {unknown}", loc)
    return options, set(words)


def _call(kind: str, options: Mapping[str, str], words: Collection[str], loc: Loc) -> str:
    if kind == "PIPELINE":
        return "" if "off" in words else _guarded(f"pipeline({options.get('II', 'e2hls::kAuto')})")
    if kind == "UNROLL":
        off = "off" in words or options.get("OFF", "false").lower() == "true"
        return "" if off else _guarded(f"unroll({options.get('FACTOR', '0')})")
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
        return _stream(place, options, words, loc)
    return _partition(kind, place, options, words, loc)


def _stream(place: str, options: Mapping[str, str], words: Collection[str], loc: Loc) -> str:
    kind = options.get("TYPE", "pipo" if "off" in words else "fifo").lower()
    if kind == "pipo":  # what an array between processes is in any case
        return ""
    if kind != "fifo":
        raise HlsError("pragma HLS STREAM is taken with type=fifo and type=pipo only", loc)
    return _guarded(f"depth({place}, {_needed('STREAM', options, 'DEPTH', loc)})")


def _partition(kind: str, place: str, options: Mapping[str, str], words: Collection[str], loc: Loc) -> str:
    given = [*words, *([options["TYPE"].lower()] if "TYPE" in options else [])]
    how = given[0] if given else "complete"
    if len(given) > 1 or how not in _KINDS:
        raise HlsError(
            f"pragma HLS {kind} takes one type of {', '.join(_KINDS)}, not {' and '.join(given)}", loc
        )
    factor = "0" if how == "complete" else _needed(f"{kind} {how}", options, "FACTOR", loc)
    return _guarded(f"partition({place}, {options.get('DIM', '1')}, {_KINDS.index(how)}, {factor})")


def _interface(options: Mapping[str, str], words: Collection[str], loc: Loc) -> str:
    mode = options.get("MODE", next((word for word in words if word in _MODES), "")).lower()
    if mode not in _MODES:
        wanted = ", ".join(sorted(_MODES))
        raise HlsError(f"pragma HLS INTERFACE takes one mode of {wanted}, not {mode or 'none'}", loc)
    port = _needed("INTERFACE", options, "PORT", loc)
    if mode == "ap_ctrl_none" and port == "return":
        return ""
    if mode == "axis":
        return _guarded(f"axis(e2hls::address({port}))")
    return _guarded("interface()")


def _needed(kind: str, options: Mapping[str, str], key: str, loc: Loc) -> str:
    if key not in options:
        raise HlsError(f"pragma HLS {kind} needs {key.lower()}=", loc)
    return options[key]


def _guarded(call: str) -> str:
    """A marker's call; no marker may be called where a function runs in a constant expression."""
    return f"(__builtin_is_constant_evaluated() ? void() : __hls_mark_{call})"
