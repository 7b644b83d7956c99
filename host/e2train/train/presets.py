# SPDX-License-Identifier: Apache-2.0
"""Named choices: presets, each a data set with a model and the settings that suit them, and methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2train.nn.models import MODEL_NAMES

__all__ = ["METHODS", "MODELS", "OWN", "PRESET_NAMES", "SETTINGS", "Method"]

OWN = "folder-"
"""What presets for a user's own images begin with."""

_CIFAR_MODELS = (*(f"resnet{depth}" for depth in (8, 14, 20, 38, 74, 110)), "mobilenetv2")

# Preset -> model.
MODELS = {
    "digits": "digits",
    **{f"cifar{classes}-{model}": model for classes in (10, 100) for model in _CIFAR_MODELS},
    "imagenet-resnet18": "resnet18",
    **{f"{OWN}{model}": model for model in MODEL_NAMES},
}
PRESET_NAMES = tuple(MODELS)

# The paper's: batch 128, learning rate 0.1 cut to a tenth at half and at three quarters of 64,000 steps.
# gradient_rounding: in 64,000 steps of ResNet-8, 62 % dropped, e2train ends at a training loss of 0.44
# dithered, of 0.48 rounded to nearest.
_CIFAR = {
    "batch": 128,
    "steps": 64_000,
    "schedule": "steps",
    "warmup": 0.0,
    "threads": 2,
    "gradient_rounding": "dithered",
}
_OWN: dict[str, object] = {"epochs": 30, "label_smoothing": 0.1}
# sign_lr: in 1,000 steps of ResNet-14 as good as 0.0004, better than 0.0015 and more. Weights that move by
# signs forget in (1 - momentum) / (sign_lr * sign_weight_decay) steps. In 6,000 steps of ResNet-8 psg has
# 76.2, 76.8, 77.8 and 77.1 % of held-out images right with decays of 0.022, 0.067, 0.2 and 0.5; half of the
# best for the 64,000 steps of the schedule is a guess.
# Over 64,000 steps with 62 % dropped, e2train ends at a training loss of 0.48 with sign_scale each, of 0.57
# without; psg over 16,000 steps at 0.50 and 0.58. In 6,000 steps signs alone end lower.
_SIGNED = {"sign_scale": "each", "sign_lr": 7e-4, "sign_weight_decay": 0.1}
# With skip 0.2, slu in 300 steps of ResNet-14 is 4.5 points better on held-out images within stages than
# anywhere. In 1,000 steps of ResNet-8, which has one block a stage, it costs 9.5 points and saves 8 % of the
# energy.
_SKIPS = {"skip_where": "within-stages"}
# Chosen on held-out images (docs/results.md): lr 0.3 is better than 0.1 in float32 and in e2train; forward
# results of 8 bits cost nothing, input gradients of 8 do. With an eighth of the steps updating the stem, and
# a third dropped, a scheduled step of e2train takes a tenth of the modelled energy of one in float32.
_RESNET8 = {
    "schedule": "cosine",
    "warmup": 0.05,
    "lr": 0.3,
    "smd": 0.34,
    "skip": 0.0,
    "stem_updates": 0.125,
    "swa_first": 0.9,
    "result_bits": 8,
    "input_gradient_bits": 16,
}
# In 360 steps of batch 16 e2train has 98.8 % of held-out digits right with this sign_lr, 98.4 % with 0.002
# (3 seeds each), 98.1 % with 0.006; in 170 steps of batch 32 with 0.006 it has 96.7 % (2 seeds each).
_DIGITS: dict[str, object] = {"batch": 16, "label_smoothing": 0.1, "sign_lr": 0.0013, "gate_weight": 10.0}
_OFFLOADED = ("resnet18",)  # whose max pooling and projections have no place in a resident step
_CHOSEN: dict[str, dict[str, object]] = {
    "digits": _DIGITS,
    **{name: _CIFAR | _SIGNED | _SKIPS for name in PRESET_NAMES if name.startswith("cifar")},
    **{f"cifar{classes}-resnet8": _CIFAR | _SIGNED | _SKIPS | _RESNET8 for classes in (10, 100)},
    "imagenet-resnet18": {"batch": 256, "epochs": 90, "schedule": "steps", "warmup": 0.0, "threads": 2},
    **{f"{OWN}{model}": _OWN | {"sign_lr": 0.003, "threads": 2} for model in MODEL_NAMES},
    f"{OWN}digits": _OWN | {"sign_lr": 0.006, "gate_weight": 10.0},
}
SETTINGS = {
    name: {"execution": "offload" if model in _OFFLOADED else "resident", **_CHOSEN[name]}
    for name, model in MODELS.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of training: which of the three savings it uses."""

    name: str
    offloads: bool = True  # convolutions on the device, else in float32 on the host
    drops_batches: bool = False  # SMD
    skips: Literal["nothing", "by chance", "by gate"] = "nothing"  # by gate: SLU
    signs: Literal["none", "of gradients", "predicted"] = "none"  # predicted: PSG


METHODS = {
    method.name: method
    for method in (
        Method(name="smb-fp32", offloads=False),
        Method(name="smb-int8"),
        Method(name="sd", skips="by chance"),
        Method(name="smd", drops_batches=True),
        Method(name="slu", skips="by gate"),
        Method(name="signsgd", signs="of gradients"),
        Method(name="psg", signs="predicted"),
        Method(name="e2train", drops_batches=True, skips="by gate", signs="predicted"),
    )
}
