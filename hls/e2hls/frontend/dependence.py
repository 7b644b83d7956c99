# SPDX-License-Identifier: Apache-2.0
"""The form of a DEPENDENCE pragma, which promises how the iterations of a loop depend on one another.

The RTL keeps every dependence without it, so a promise relaxes no schedule and a false one breaks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from e2hls.base.errors import HlsError, Loc

__all__ = ["DEPENDENCE_WORDS", "check_dependence"]

_WORDS: Mapping[str, tuple[str, ...]] = {
    "CLASS": ("array", "pointer"),
    "TYPE": ("inter", "intra"),
    "DIRECTION": ("RAW", "WAR", "WAW"),
    "DEPENDENT": ("true", "false"),
}
_OPTION_OF = {word.lower(): option for option, words in _WORDS.items() for word in words}
DEPENDENCE_WORDS = frozenset(_OPTION_OF)  # those that may stand alone, in lower case


def check_dependence(options: Mapping[str, str], words: Collection[str], loc: Loc) -> None:
    """Refuse what is no promise: ``options`` by name in capitals, ``words`` of those above.

    Raises: HlsError.
    """
    given = {option: [value] for option, value in options.items() if option in _WORDS}
    for word in sorted(words):
        given.setdefault(_OPTION_OF[word], []).append(word)
    for option, values in given.items():
        if len(values) != 1 or _OPTION_OF.get(values[0].lower()) != option:
            allowed, got = ", ".join(_WORDS[option]), " and ".join(values)
            raise HlsError(f"pragma HLS DEPENDENCE takes one {option.lower()} of {allowed}, not {got}", loc)
    if ("VARIABLE" in options) == ("CLASS" in given):
        raise HlsError("pragma HLS DEPENDENCE needs either variable= or class=", loc)
    if re.fullmatch(r"0+|-\d+", options.get("DISTANCE", "1")):
        raise HlsError(f"pragma HLS DEPENDENCE distance={options['DISTANCE']} must be at least 1", loc)
