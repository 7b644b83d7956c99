# SPDX-License-Identifier: Apache-2.0
"""Which settings a run does not depend on, so that a user who chose one learns of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from e2train.train.config import RESIDENT_ONLY, RunConfig, keys_in
from e2train.train.presets import METHODS, Method

__all__ = ["chosen_keys", "unused_note"]

_RESIDENT = tuple(key for key in RESIDENT_ONLY if key != "execution")
_SKIPPING = ("skip", "skip_where", "gate_weight")
_BY_GATE = ("gate_weight", "stem_updates")
_SIGNS = ("sign_scale", "sign_lr", "sign_weight_decay", "swa_first")
_PREDICTION = ("psg_mode", "psg_x_bits", "psg_g_bits", "psg_beta")
# Widths and execution are those of the int8 training that the energy of one in float32 is compared with.
_ON_DEVICE = ("scale_decay", "gradient_range", "gradient_rounding", "overlay", "token_file", "deadline_s")


def _devices(config: RunConfig) -> set[str]:
    return {device.partition(":")[0] for device in config.device.split(",")}


# Settings that change nothing where the condition holds, and the setting that makes it so; the most general
# first. A device that was chosen is named too, but for the one that runs have by default.
_RULES: tuple[tuple[tuple[str, ...], str, Callable[[RunConfig, Method], bool]], ...] = (
    (("epochs",), "steps", lambda config, method: config.steps > 0),
    (("combine",), "ranks", lambda config, method: config.ranks == 1),
    (("smd", "smd_mode"), "method", lambda config, method: not method.drops_batches),
    (("smd_mode",), "smd", lambda config, method: not config.smd),
    (_SKIPPING, "method", lambda config, method: method.skips == "nothing"),
    (_BY_GATE, "method", lambda config, method: method.skips != "by gate"),
    (_SKIPPING[1:], "skip", lambda config, method: not config.skip),
    (_SIGNS, "method", lambda config, method: method.signs == "none"),
    (_SIGNS[1:3], "sign_scale", lambda config, method: config.sign_scale != "none"),
    (_PREDICTION, "method", lambda config, method: method.signs != "predicted"),
    (("psg_beta",), "psg_mode", lambda config, method: config.psg_mode == "predict"),
    (_ON_DEVICE, "method", lambda config, method: not method.offloads),
    (("device",), "method", lambda config, method: not method.offloads and config.device != "emulator"),
    (_RESIDENT, "execution", lambda config, method: not config.resident),
    (_RESIDENT[-2:], "gradient_bits", lambda config, method: not config.narrow_gradients),
    (("overlay",), "device", lambda config, method: "pynq" not in _devices(config)),
    (("token_file",), "device", lambda config, method: "agent" not in _devices(config)),
    (("deadline_s",), "device", lambda config, method: not {"pynq", "agent"} & _devices(config)),
)


def chosen_keys(preset: str, options: Iterable[str], assignments: Iterable[str]) -> list[str]:
    """The settings that a user has chosen: in a file written by hand, by options, and by ``--set``.

    >>> chosen_keys("digits", ["lr"], ["psg_beta=0.1"])
    ['lr', 'psg_beta']
    """
    written = keys_in(Path(preset)) if preset.endswith(".toml") else []
    return [*dict.fromkeys((*written, *options, *(text.partition("=")[0] for text in assignments)))]


def unused_note(config: RunConfig, chosen: Iterable[str]) -> str:
    """One line that names the chosen settings without effect, each with what makes it so; "" for none.

    >>> from e2train.train import find_config
    >>> unused_note(find_config("digits").changed(method="smd"), ["lr", "skip", "psg_beta"])
    'without effect: skip, psg_beta (method smd)'
    """
    causes: dict[str, str] = {}
    for keys, cause, holds in _RULES:
        if holds(config, METHODS[config.method]):
            causes = dict.fromkeys(keys, cause) | causes
    named: dict[str, list[str]] = {}
    for key in chosen:
        if key in causes:
            named.setdefault(causes[key], []).append(key)
    parts = "; ".join(
        f"{', '.join(keys)} ({cause} {getattr(config, cause)})" for cause, keys in named.items()
    )
    return parts and f"without effect: {parts}"
