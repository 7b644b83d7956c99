# SPDX-License-Identifier: Apache-2.0
"""Trained models: model.pt in the folder of a run, and starting another training from its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from e2train.config.records import check_record
from e2train.nn import Group, ResidualNet, share, whole_state
from e2train.train.checks import check_numbers
from e2train.train.config import RunConfig
from e2train.train.data import ImageFormat
from e2train.train.data.dataset import warn
from e2train.train.errors import TrainError
from e2train.train.files import read_sealed, write_sealed
from e2train.train.hashing import state_sha256

__all__ = [
    "TrainedModel",
    "find_weights",
    "from_content",
    "load_state",
    "load_trained",
    "save_trained",
    "start_weights",
    "to_content",
]

_FORMAT = 1
_KIND = "e2train model"
_CONTENT = {"settings": "dict", "image": "dict", "names": "list", "state": "dict", "weights_sha256": "str"}
_AGAIN = "train again, or take another run"
# Parts whose every tensor must be there; ranges of inputs, scales and gates are taken where they fit.
_PARTS = ("stem.", "blocks.", "head.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """The state of a model, how it was trained, and the images and classes that it knows."""

    config: RunConfig
    format: ImageFormat
    names: tuple[str, ...]  # of the classes
    state: dict[str, Tensor]
    weights_sha256: str


def save_trained(path: Path, trained: TrainedModel) -> None:
    """Write a model.pt."""
    write_sealed(path, {"kind": _KIND, **to_content(trained)})


def load_trained(path: Path) -> TrainedModel:
    """Read a model.pt.

    Raises: TrainError when it is none, or any bit of it has changed.
    """
    content = read_sealed(path, remedy=_AGAIN)
    if content.get("kind") != _KIND:
        raise TrainError(f"{path} is not a trained model; {_AGAIN}")
    return from_content(content, path)


def to_content(trained: TrainedModel) -> dict[str, Any]:
    """What a file says of a trained model."""
    return {
        "format": _FORMAT,
        "settings": asdict(trained.config),
        "image": {key: _plain(value) for key, value in asdict(trained.format).items()},
        "names": list(trained.names),
        "state": trained.state,
        "weights_sha256": trained.weights_sha256,
    }


def from_content(content: dict[str, Any], path: Path) -> TrainedModel:
    """A trained model from what a file says of it.

    Raises: TrainError when that is of another version.
    """
    try:
        if content.get("format") != _FORMAT:
            raise ValueError(f"its format is {content.get('format')}, not {_FORMAT}")
        check_record({key: content[key] for key in _CONTENT if key in content}, _CONTENT)
        image = {
            key: tuple(value) if isinstance(value, list) else value for key, value in content["image"].items()
        }
        form = ImageFormat(**image)  # type: ignore[arg-type]
        check_numbers(form)
        return TrainedModel(
            config=RunConfig(**content["settings"]),
            format=form,
            names=tuple(map(str, content["names"])),
            state=_tensors(content["state"]),
            weights_sha256=content["weights_sha256"],
        )
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainError(f"{path} is of another version: {reason}; {_AGAIN}") from error


def start_weights(
    config: RunConfig, names: Sequence[str], *, resume: bool
) -> tuple[RunConfig, dict[str, Tensor] | None]:
    """The weights to start from, and the settings with their hash; None for a fresh start, or to resume.

    The classifier of as many other classes as ``names`` is left out, with a warning.

    Raises: TrainError when they are not there, or others than the settings say.
    """
    if config.init_sha256 and not config.init and not resume:
        raise TrainError(
            f"init_sha256 names weights, {config.init_sha256[:12]}..., and init does not say where they are; "
            "give --init, or --set init_sha256= to start without"
        )
    if not config.init or (resume and config.init_sha256):
        return config, None
    weights = find_weights(Path(config.init))
    found = state_sha256(weights)
    if config.init_sha256 not in ("", found):
        raise TrainError(
            f"init: {config.init} holds weights with SHA-256 {found[:12]}..., the settings say "
            f"{config.init_sha256[:12]}...; give --init the run whose weights the settings name"
        )
    if resume:
        return config.changed(init_sha256=found), None
    before = _trained_before(Path(config.init))
    if before is None:
        _warn_of_checkpoint(config, weights, len(names))
    else:
        _warn_of_known_images(config, before.config)
        if len(before.names) == len(names) and before.names != tuple(names):
            known = ", ".join(before.names[:3]) + (", ..." if len(before.names) > 3 else "")
            warn(f"{config.init} has other classes ({known}), or in another order: the classifier is new")
            classifier = _classifier(weights)
            weights = {name: tensor for name, tensor in weights.items() if name not in classifier}
    return config.changed(init_sha256=found), weights


def _trained_before(place: Path) -> TrainedModel | None:
    """The trained model whose weights a run starts from; None for a checkpoint's."""
    path = place / "model.pt" if place.is_dir() else place
    try:
        return load_trained(path)
    except TrainError:
        return None


def _warn_of_checkpoint(config: RunConfig, weights: dict[str, Tensor], classes: int) -> None:
    """Say what a checkpoint does not: the classes that its classifier tells apart."""
    path = _file_of(Path(config.init))
    try:
        content = read_sealed(path, remedy=_AGAIN)
        before = RunConfig(**content["settings"])
    except (LookupError, TrainError, TypeError, ValueError):
        return  # of another version
    if content.get("kind") == _KIND:  # so is this model.pt
        return
    _warn_of_known_images(config, before)
    same = (config.preset, config.data_sha256) == (before.preset, before.data_sha256)
    bias = weights.get(_classifier(weights)[1])
    if not same and bias is not None and bias.shape == (classes,):
        warn(
            f"{path} does not name its {classes} classes, and its classifier is kept: right for the same "
            "classes in the same order only; start from a model.pt for others"
        )


def _warn_of_known_images(config: RunConfig, before: RunConfig) -> None:
    """Say so where a run, or one that it began with, has learnt from images that are held out now."""
    if not config.validation:
        return
    place, run = config.init, before
    while True:
        same = config.data_sha256 == run.data_sha256 and (config.data_sha256 or config.preset == run.preset)
        if same and (config.validation, config.seed) != (run.validation, run.seed):
            remedy = f"hold out the same ones with --seed {run.seed} --set validation={run.validation:g}"
            warn(
                f"{place} has learnt from images that are held out now, so that validation accuracy says "
                f"too much; {remedy if run.validation else 'it held none out'}"
            )
            return
        if not run.init_sha256:
            return
        earlier = _settings_of_start(run)
        if earlier is None:
            warn(
                f"{place} began with weights that are not at {run.init} any more: they may have learnt from "
                "images that are held out now"
            )
            return
        place, run = run.init, earlier


def _settings_of_start(run: RunConfig) -> RunConfig | None:
    """The settings that the weights were trained with which a run began with; None where they are gone."""
    place = Path(run.init)
    try:
        if state_sha256(find_weights(place)) != run.init_sha256:
            return None
        return RunConfig(**read_sealed(_file_of(place), remedy=_AGAIN)["settings"])
    except (LookupError, OSError, TrainError, TypeError, ValueError):
        return None


def _classifier(names: Iterable[str]) -> list[str]:
    """Weight and bias of the last layer of the head, of these names of tensors."""
    of_head = (name for name in names if name.startswith("head."))
    last = max(of_head, key=_place, default="").rpartition(".")[0]
    return [f"{last}.weight", f"{last}.bias"]


def _place(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdigit()]


def load_state(
    model: ResidualNet, weights: dict[str, Tensor], *, origin: str, group: Group | None = None
) -> None:
    """Take over weights, batch norm and whatever else fits; a classifier of another size stays new.

    Raises: TrainError when the model is another one.
    """
    own = whole_state(model)
    last = max(name for name, module in model.head.named_modules() if isinstance(module, nn.Linear))
    classifier = [f"head.{last}.weight", f"head.{last}.bias"]
    kept_classifier = all(name in weights and weights[name].shape == own[name].shape for name in classifier)
    taken = {}
    for name, tensor in own.items():
        fits = name in weights and (weights[name].shape, weights[name].dtype) == (tensor.shape, tensor.dtype)
        if fits and (name not in classifier or kept_classifier):
            taken[name] = weights[name]
        elif name.startswith(_PARTS) and name not in classifier and "sign_quant." not in name:
            there = tuple(weights[name].shape) if name in weights else "not there"
            raise TrainError(
                f"{origin} is of another model: {name} is {there}, this model's is {tuple(tensor.shape)}; "
                "take a run of the same model, with images of as many channels"
            )
    model.load_state_dict(own | taken)
    share(model, group or Group())  # Brevitas has rebuilt its quantisers


def find_weights(place: Path) -> dict[str, Tensor]:
    """The state of a model, from the folder of a run, a model.pt or a checkpoint.pt.

    Raises: TrainError when there is none.
    """
    path = _file_of(place)
    if not path.is_file():
        raise TrainError(
            f"nothing to start from: {place} is no run with a model.pt or checkpoint.pt, and no such file"
        )
    content = read_sealed(path, remedy="start from another run")
    state = content.get("state")
    if content.get("kind") != _KIND and isinstance(state, dict):
        state = state.get("model")  # a checkpoint's
    if not isinstance(state, dict):
        raise TrainError(f"{path} holds no model; start from another run")
    try:
        return _tensors(state)
    except TypeError as error:
        raise TrainError(f"{path} holds no model: {error}; start from another run") from None


def _file_of(place: Path) -> Path:
    """The file with weights in the folder of a run, or the file that is given."""
    files = (place / name for name in ("model.pt", "checkpoint.pt"))
    return next((file for file in files if file.exists()), place) if place.is_dir() else place


def _tensors(state: dict[Any, Any]) -> dict[str, Tensor]:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(f"{str(name)[:40]} is of type {type(value).__name__}")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise TypeError(f"{name} is not finite")
    return state


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
