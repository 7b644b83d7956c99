# SPDX-License-Identifier: Apache-2.0
"""What a value in the hardware is called in the kernel that it was made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from e2hls.base.errors import Loc

__all__ = ["term"]

# What LLVM adds to the name of a variable that it has split, copied or inlined.
_ADDED = re.compile(r"(?:_(?:be|high|i|in|lcssa|low|off|ph|pre|sroa|us)?\d*)+\Z|\d+\Z")
# What clang calls values that no variable holds.
_OPERATIONS = re.compile(
    "add|agg|and|arrayidx|ashr|bf|brmerge|call|cmp|cond|conv|dec|div|exitcond|ext|extract|frozen|icmp|idx|inc|"
    "indvars|insert|land|lnot|load|lor|lshr|mask|mul|narrow|neg|not|or|phi|ref|rem|retval|select|sel|sext|shl|"
    "shr|spec|spec_select|storemerge|sub|this|tmp|tobool|trunc|umax|umin|unpack|v|vec|xor|zext"
)


def term(process: str, loops: Sequence[str], value: str, loc: Loc | None) -> str:
    """Process, loops that may run it, variable and line, as far as they are known.

    >>> term("compute", ["iterations"], "flushing_i_sroa_0_0_off027", Loc("hls/compute.hpp", 270))
    'compute, loop iterations: flushing (compute.hpp:270)'
    >>> term("compute", ["rows", "taps"], "cmp_i43", None)
    'compute, loops rows, taps'
    """
    where = process
    if loops:
        where += f", loop{'s' if len(loops) > 1 else ''} {', '.join(loops)}"
    name = _ADDED.sub("", value)
    name = "" if _OPERATIONS.fullmatch(name) else name
    line = f"({Path(loc.file).name}:{loc.line})" if loc else ""
    what = " ".join(filter(None, (name, line)))
    return f"{where}: {what}" if what else where
