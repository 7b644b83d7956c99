# SPDX-License-Identifier: Apache-2.0
"""What determines a run, and the TOML file that holds it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from e2train.config import config_names
from e2train.config.records import RecordError, check_record, load_toml
from e2train.devices import DeviceError, check_device
from e2train.energy import EnergyError, check_meter
from e2train.numerics.psg import SIGN_SCALES, Psg, PsgMode, SignScale
from e2train.runtime import Widths
from e2train.train.errors import TrainError
from e2train.train.files import is_text
from e2train.train.presets import METHODS, OWN, PRESET_NAMES, SETTINGS

__all__ = ["PRESETS", "RunConfig", "find_config", "keys_in", "read_config"]

# Where a run computes does not change what it computes.
_WHERE_ONLY = ("device", "board", "data", "overlay", "token_file", "deadline_s", "meter", "init", "log")
# Without effect elsewhere.
RESIDENT_ONLY = (
    "execution",
    "result_bits",
    "input_gradient_bits",
    "block_gradient_bits",
    "scale_decay",
    "gradient_range",
    "gradient_rounding",
)
_OWN_DATA_ONLY = ("image_size", "channels", "augment")
_IF_SET = ("init_sha256", "freeze")
# Settings that files of earlier runs lack, which are as by default.
_LATER = ("gradient_rounding", "block_gradient_bits", "input_gradient_bits", "stem_updates")
_BARE_SIGNS_ONLY = ("sign_lr", "sign_weight_decay")
_LARGEST_IMAGE = 1024  # rows
_SMALLEST_IMAGE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that a run's outcome depends on."""

    preset: str  # data set and model
    method: str = "e2train"  # which of the savings are used
    # Where convolutions run: emulator, spec, csim, rtl, pynq, pynq:HOST or agent:HOST; of ranks one each.
    device: str = "emulator"
    board: str = "pynq_z2"  # configuration of the engine, in boards.toml
    overlay: str = ""  # archive that a pynq board is programmed with
    token_file: str = ""  # token of a board's agent, where it is not in its usual place
    deadline_s: float = 60.0  # seconds that a board may take to answer
    meter: str = "auto"  # energy meter: the board's own (auto), none, or another
    log: str = "none"  # what is written beside metrics.jsonl
    data: str = ""  # folder of the data set, where it needs one; of own images also an .npz file
    image_size: int = 0  # of own images, cut to squares; 0: median shorter side, at most the network's size
    channels: int = 0  # of own images, 1 or 3; 0: as they are
    augment: str = "none"  # of own images: mirror-shift mirrors half of them, and shifts by up to 4 pixels
    init: str = ""  # weights to start from: folder of a run, model.pt or checkpoint.pt
    init_sha256: str = ""  # hash of these weights, which must be theirs
    freeze: str = ""  # layers that stay as they are, such as stem,blocks.0-2
    data_sha256: str = ""  # hash of the images, which must be theirs (ImageNet: of names and sizes of files)
    host: str = "cpu"  # the torch device
    threads: int = 1  # of torch and of the emulator; sums in float32 depend on it
    seed: int = 0  # of weights, order, draws and augmentation
    epochs: int = 4  # passes over the data, where steps is 0
    steps: int = 0  # scheduled steps, dropped ones included; 0: as many as the epochs have
    batch: int = 32  # images per step
    ranks: int = 1  # processes that share each batch, as torchrun has started them
    combine: str = "sum"  # of the ranks' weight gradients: their sum, or a vote on their signs
    lr: float = 0.1  # learning rate, times what warm-up and schedule make of it
    # cosine falls to 0; steps to a tenth from half of the steps on, a hundredth from three quarters on.
    schedule: str = "cosine"
    warmup: float = 0.1  # share of the steps in which the learning rate also rises, times 0 to 1
    momentum: float = 0.9  # of the optimiser, SGD
    weight_decay: float = 1e-4  # of weights that move by gradients or by signs times magnitudes
    label_smoothing: float = 0.0  # of the loss
    smd: float = 0.5  # share of the batches that SMD drops
    smd_mode: str = "drop"  # fewer: the baseline, of only as many steps as SMD would run
    skip: float = 0.2  # share of block executions that SLU or stochastic depth aims to skip; 0: no gates
    skip_where: str = "anywhere"  # within-stages: the first block of each stage always runs
    gate_weight: float = 1.0  # weight of the loss that steers gates to skip
    stem_updates: float = 1.0  # share of the steps in which SLU updates the stem; blocks more, the last all
    # What PSG multiplies signs by: nothing, the mean magnitude in their layer, or each its own magnitude.
    sign_scale: SignScale = "none"
    sign_lr: float = 0.003  # peak learning rate of bare signs (sign_scale none)
    sign_weight_decay: float = 1e-4  # of weights that bare signs move
    swa_first: float = 0.75  # share of the steps after which methods with signs average weights; 1: never
    # What is on the device: convolutions alone (offload), or all but the classifier (resident).
    execution: str = "offload"
    gradient_bits: int = 0  # of output gradients: 4 to 16, resident 8 or 16; 0: 16, resident 8
    result_bits: int = 16  # resident: of results of forward and grad_input, 8 or 16
    input_gradient_bits: int = 0  # resident: of results of grad_input; 0: as result_bits
    block_gradient_bits: int = 16  # resident: of gradients from block to block, 8 or 16
    scale_decay: float = 0.95  # resident: factor per step on the running maxima that scales follow
    gradient_range: float = 1.0  # resident: share of their maximum that 8-bit gradients reach
    gradient_rounding: str = "nearest"  # resident: of 8-bit gradients
    psg_mode: PsgMode = "predict"  # which signs are trusted, and what others become
    psg_x_bits: int = 4  # high bits of activations that signs are predicted from
    psg_g_bits: int = 0  # and of output gradients; 0: 10, or gradient_bits where these are fewer
    psg_beta: float = 0.05  # share of a layer's largest magnitude from which on a sign is trusted
    test_images: int = 0  # images tested at the end, evenly spread; 0: all
    validation: float = 0.0  # share of the training images held out, and tested in place of the test set

    def __post_init__(self) -> None:
        for key, kind in _KINDS.items():
            if kind == "float" and type(value := getattr(self, key)) is int:  # else 1 and 1.0 have two hashes
                object.__setattr__(self, key, float(value) if abs(value) <= _LARGEST_INT else _ANY)
        self._check_values()
        try:
            _ = self.widths
            for device in self.device.split(","):
                check_device(device)
            check_meter(self.meter)
        except (ValueError, DeviceError, EnergyError) as error:
            raise TrainError(str(error)) from None
        self._check_bits()
        method, saves = METHODS[self.method], self.skip or self.selects_updates
        if method.skips != "nothing" and method.signs == "none" and not saves:
            raise TrainError(
                f"method {self.method} with skip 0 saves nothing; use --set skip=... or smb-int8"
            )
        if self.combine == "vote" and METHODS[self.method].signs == "none":
            raise TrainError(f"method {self.method} has no signs to vote on; use combine=sum")
        if self.sign_scale == "each":
            self._check_own_magnitudes()
        if self.resident:
            self._check_resident()
        self._check_images()

    def _check_values(self) -> None:
        """Look at each setting by itself."""
        for key, known in CHOICES.items():
            if getattr(self, key) not in known:
                raise TrainError(f"no {key} {getattr(self, key)!r}; there are: {', '.join(known)}")
        for key, (lowest, highest) in RANGES.items():
            value = getattr(self, key)
            if not lowest <= value <= highest or value == _ANY:
                bounds = f"at least {lowest}" if highest == _ANY else f"in {lowest}..{highest}"
                raise TrainError(f"{key} must be {bounds}, not {str(value)[:40]}")
        for key, kind in _KINDS.items():
            if kind == "str" and not is_text(getattr(self, key)):
                raise TrainError(
                    f"{key} is {getattr(self, key)!a}, which is no UTF-8; rename the file or folder"
                )

    def _check_bits(self) -> None:
        for name in ("result_bits", "block_gradient_bits"):
            if getattr(self, name) not in (8, 16):
                raise TrainError(f"{name} must be 8 or 16, not {getattr(self, name)}")
        if self.input_gradient_bits not in (0, 8, 16):
            raise TrainError(f"input_gradient_bits must be 0, 8 or 16, not {self.input_gradient_bits}")
        used = self.widths.gradient_bits
        if METHODS[self.method].signs == "predicted" and self.psg_g_bits > used:
            raise TrainError(f"psg_g_bits must be at most gradient_bits, {used}, not {self.psg_g_bits}")

    def _check_resident(self) -> None:
        gradient_bits = self.widths.gradient_bits
        if gradient_bits not in (8, 16):
            raise TrainError(
                f"gradient_bits must be 8 or 16 in resident runs, not {gradient_bits}; other widths need "
                "--set execution=offload"
            )

    def _check_own_magnitudes(self) -> None:
        if self.combine == "vote":
            raise TrainError("signs that are voted on have no magnitudes of their own; use sign_scale=mean")
        if METHODS[self.method].signs == "of gradients":
            raise TrainError(
                f"method {self.method} with sign_scale each moves weights by the full gradient; "
                "use --set sign_scale=none, or smb-int8"
            )

    def _check_images(self) -> None:
        if self.image_size and not _SMALLEST_IMAGE <= self.image_size <= _LARGEST_IMAGE:
            bounds = f"{_SMALLEST_IMAGE}..{_LARGEST_IMAGE}"
            raise TrainError(f"image_size must be 0 or in {bounds}, not {self.image_size}")
        if self.channels not in (0, 1, 3):
            raise TrainError(f"channels must be 0, 1 or 3, not {self.channels}")
        chosen = [key for key in _OWN_DATA_ONLY if getattr(self, key) not in (0, "none", "")]
        if chosen and not self.own_data:
            raise TrainError(f"{chosen[0]} is a setting of {OWN}MODEL presets, not of {self.preset}")

    @property
    def own_data(self) -> bool:
        """Whether the images are a user's own."""
        return self.preset.startswith(OWN)

    @property
    def image(self) -> tuple[int, int, int] | None:
        """The shape (C, H, W) of own images; None where the model's usual ones are meant."""
        return (self.channels, self.image_size, self.image_size) if self.channels else None

    @property
    def resident(self) -> bool:
        """Whether activations and gradients stay in the device's memory."""
        return self.execution == "resident"

    @property
    def psg(self) -> Psg:
        """How signs are predicted, where the method does."""
        return self.widths.psg

    @property
    def widths(self) -> Widths:
        """Widths of the operands on the device."""
        gradient_bits = self.gradient_bits or (8 if self.resident else 16)
        g_bits = self.psg_g_bits or min(10, gradient_bits)
        psg = Psg(mode=self.psg_mode, x_bits=self.psg_x_bits, g_bits=g_bits, beta=self.psg_beta)
        return Widths(gradient_bits=gradient_bits, psg=psg)

    @property
    def selects_updates(self) -> bool:
        """Whether the backward passes of some steps end before early blocks."""
        return METHODS[self.method].skips == "by gate" and self.stem_updates < 1

    @property
    def narrow_gradients(self) -> bool:
        """Whether resident runs round gradients to 8 bits."""
        return 8 in (self.widths.gradient_bits, self.block_gradient_bits)

    @property
    def dithered(self) -> bool:
        """Whether there are gradients of 8 bits, and their rounding errors are to cancel out."""
        on_device = self.resident and METHODS[self.method].offloads
        return on_device and self.narrow_gradients and self.gradient_rounding == "dithered"

    @property
    def determining(self) -> dict[str, int | float | str]:
        """The settings that determine the trained weights: all but where they are computed."""
        left_out = [*_WHERE_ONLY]
        left_out += [] if self.resident else RESIDENT_ONLY
        left_out += [] if self.own_data else [*_OWN_DATA_ONLY, "data_sha256"]
        left_out += ["sign_scale"] if self.sign_scale == "none" else _BARE_SIGNS_ONLY
        left_out += ["gradient_range"] if self.gradient_range == 1 else []
        left_out += [] if self.selects_updates else ["stem_updates"]
        narrow = METHODS[self.method].offloads and self.block_gradient_bits == 8
        left_out += [] if narrow else ["block_gradient_bits"]
        own = METHODS[self.method].offloads and self.input_gradient_bits not in (0, self.result_bits)
        left_out += [] if own else ["input_gradient_bits"]
        left_out += [] if self.dithered else ["gradient_rounding"]
        left_out += [key for key in _IF_SET if not getattr(self, key)]
        widths = self.widths
        values = asdict(self) | {"gradient_bits": widths.gradient_bits, "psg_g_bits": widths.psg.g_bits}
        return {key: value for key, value in values.items() if key not in left_out}

    @property
    def hash(self) -> str:
        """Hash of the settings that determine the trained weights."""
        return hashlib.sha256(json.dumps(self.determining, sort_keys=True).encode()).hexdigest()

    @property
    def default_out(self) -> Path:
        """The run's folder where none is given."""
        device = self.device.split(",")[0].partition(":")[0]
        return Path("runs") / f"{self.preset}-{self.method}-{device}-seed{self.seed}"

    def changed(self, **options: Any) -> RunConfig:
        """The same with other values; an option that is None changes nothing.

        Epochs without steps take the place of steps.

        >>> PRESETS["cifar10-resnet8"].changed(epochs=5).steps
        0
        """
        given = {key: value for key, value in options.items() if value is not None}
        return replace(self, **({"steps": 0} if "epochs" in given else {}) | given)

    def set(self, assignments: list[str], **options: Any) -> RunConfig:
        """The same with values from texts such as ``psg_mode=resolve``, and options of ``changed``.

        Raises: TrainError when there is no such key, the value is not of its type, or it is given twice.
        """
        assigned: dict[str, Any] = {}
        for text in assignments:
            key, _, value = text.partition("=")
            if key in assigned:
                raise TrainError(f"{key} is {assigned[key]} and {value} by --set; give it once")
            kind = _KINDS.get(key)
            if kind is None:
                raise TrainError(f"no setting {key!r}; there are: {', '.join(_KINDS)}")
            try:
                assigned[key] = {"int": int, "float": float}.get(kind, str)(value)
            except ValueError:
                raise TrainError(f"{key} must be of type {kind}, not {value!r}") from None
            option = options.get(key)
            if option is not None and option != assigned[key]:
                raise TrainError(f"{key} is {option} by its option and {value} by --set; give it once")
        return self.changed(**options | assigned)

    def to_toml(self) -> str:
        """The text that ``read_config`` reads.

        >>> RunConfig(preset="digits").to_toml().splitlines()[0]
        'preset = "digits"'
        """
        # A string of JSON is one of TOML where nothing but quotes and control characters is escaped.
        values = {key: json.dumps(value, ensure_ascii=False) for key, value in asdict(self).items()}
        return "".join(f"{key} = {value}\n" for key, value in values.items()).replace("\x7f", "\\u007f")


_ANY = float("inf")
_LARGEST_INT = 2**1023  # that is a float
_MOST = 2**31 - 1
_KINDS = {
    field.name: "str" if field.type in ("PsgMode", "SignScale") else str(field.type)
    for field in fields(RunConfig)
}
CHOICES: dict[str, tuple[str, ...]] = {
    "preset": PRESET_NAMES,
    "method": tuple(METHODS),
    "board": config_names(),
    "host": ("cpu", "cuda"),
    "schedule": ("cosine", "steps"),
    "smd_mode": ("drop", "fewer"),
    "sign_scale": SIGN_SCALES,
    "skip_where": ("anywhere", "within-stages"),
    "combine": ("sum", "vote"),
    "log": ("none", "tensorboard"),
    "augment": ("none", "mirror-shift"),
    "execution": ("offload", "resident"),
    "gradient_rounding": ("nearest", "dithered"),
}
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "batch"), (1, _MOST)),
    "threads": (1, 1024),
    "ranks": (1, 65_536),
    **dict.fromkeys(("steps", "test_images"), (0, _MOST)),
    **dict.fromkeys(("lr", "weight_decay", "gate_weight"), (0, _ANY)),
    **dict.fromkeys(("sign_lr", "sign_weight_decay"), (0, _ANY)),
    **dict.fromkeys(("warmup", "momentum", "label_smoothing", "skip", "swa_first", "scale_decay"), (0, 1)),
    "stem_updates": (0.001, 1),
    "seed": (0, 2**63 - 1),
    "smd": (0, 0.99),
    "validation": (0, 0.9),
    "deadline_s": (0.1, 1e6),
    "gradient_range": (1 / 64, 1),
}


PRESETS = {name: RunConfig(preset=name, **SETTINGS[name]) for name in PRESET_NAMES}  # type: ignore[arg-type]


def find_config(name: str) -> RunConfig:
    """A preset by its name, or a run's configuration by the path of its TOML file.

    Raises: TrainError when there is neither.

    >>> find_config("digits").method
    'e2train'
    """
    if name in PRESETS:
        return PRESETS[name]
    if name.endswith(".toml"):
        return read_config(Path(name))
    raise TrainError(f"no preset {name!r}; there are: {', '.join(PRESETS)}, or give a .toml file")


def read_config(path: Path) -> RunConfig:
    """Read a configuration file.

    Raises: TrainError when it cannot be read, or holds keys or values that make no sense.
    """
    raw = _read(path)
    start = RunConfig(preset=raw["preset"]) if _of_run(raw) else PRESETS.get(raw["preset"], PRESETS["digits"])
    return start.changed(**raw)


def keys_in(path: Path) -> list[str]:
    """The settings that a user has written into a file; none where a run has left it, which has all.

    Raises: TrainError as ``read_config``.
    """
    raw = _read(path)
    return [] if _of_run(raw) else list(raw)


def _read(path: Path) -> dict[str, Any]:
    """Raises: TrainError."""
    try:
        raw = check_record(load_toml(path), _KINDS, partial=True)
    except OSError as error:
        raise TrainError(f"cannot read {path}: {error.strerror}") from error
    except RecordError as error:
        raise TrainError(f"{path}: {error}") from None
    except (RecursionError, ValueError) as error:  # broken TOML and broken UTF-8
        raise TrainError(f"{path} is not TOML: {error}") from error
    if "preset" not in raw:
        raise TrainError(f"{path}: preset is missing; there are: {', '.join(PRESETS)}")
    return raw


def _of_run(raw: dict[str, Any]) -> bool:
    """Whether a run has left the file, maybe one from before the latest settings."""
    return set(_KINDS) - set(raw) <= set(_LATER)
