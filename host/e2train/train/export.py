# SPDX-License-Identifier: Apache-2.0
"""Trained models in other tools' formats, checked against the run's own evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from e2train.nn import ResidualNet
from e2train.nn.deploy import DeployedNet, conv_scales, deploy
from e2train.nn.quantities import ConvScales, Quantity
from e2train.train.data import Dataset
from e2train.train.errors import TrainError
from e2train.train.evaluation import tested_images
from e2train.train.files import read_sealed, sealed, write_atomically
from e2train.train.folder import RunFolder
from e2train.train.session import make_model
from e2train.train.trained import TrainedModel, from_content, to_content
from e2train.train.use import images_to_test, opened

if TYPE_CHECKING:
    from e2train.nn.onnx_writer import Dialect

__all__ = ["DEFAULT_NAME", "FORMATS", "Exported", "export", "load_exported"]

FORMATS = {"torch": ".pt", "onnx": ".onnx", "qonnx": ".qonnx.onnx"}
"""Ending of the file of each format."""

DEFAULT_NAME = "exported"
"""Of an export without its ending, where no other is chosen."""

_KIND = "e2train export 2"
_AGAIN = "export it again"
_BATCH = 120
Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that was written, and on how many test images it was compared; all had the same class."""

    path: Path
    images: int


def export(
    trained: TrainedModel, path: Path, *, form: str, data: Path | None = None, checked: bool = True
) -> Exported:
    """Write a trained model as a Brevitas model (torch), QCDQ ONNX or QONNX.

    Unless not ``checked``, it is written only if it takes all images that the run was tested on, or those of
    ``data``, for the same classes as the run's own model.

    Raises: TrainError when the run has no integers, a class differs, or ``path`` is another kind of file.
    """
    if form not in FORMATS:
        raise TrainError(f"no format {form!r}; there are: {', '.join(FORMATS)}")
    _refuse_taken(path)
    images, _ = images_to_test(trained, data) if checked else (None, "")
    with opened(trained) as model:
        try:
            scales = conv_scales(model)
        except ValueError as error:
            raise TrainError(
                f"nothing to export: {error}; train with a method that uses the device, such as smb-int8"
            ) from None
        net = _deployed(trained, scales)
        content = (
            _torch(net, trained, scales)
            if form == "torch"
            else _onnx(net, trained, form=form, batch="N" if form == "onnx" else 1)
        )
        count = 0
        if images is not None:
            chosen = tested_images(len(images), 0 if data else trained.config.test_images)
            count, size = len(chosen), min(_BATCH, len(chosen))
            _compare(model, _runner(net, trained, form, size), images, form, chosen=chosen, size=size)
    write_atomically(path, content)
    return Exported(path=path, images=count)


def _refuse_taken(path: Path) -> None:
    """Keep an export from taking the place of anything but an earlier export.

    Raises: TrainError when it would.
    """
    if not path.exists() or path.name.partition(".")[0] == DEFAULT_NAME:
        return
    if RunFolder(path.parent).keeps(path):
        raise TrainError(f"{path} is a file of the run in that folder; choose another file with --out")
    if not _is_export(path):
        raise TrainError(f"{path} is there and is no earlier export; choose another file with --out")


def _is_export(path: Path) -> bool:
    if path.suffix != FORMATS["torch"]:
        return path.suffix in FORMATS.values()
    try:
        return str(read_sealed(path, remedy=_AGAIN).get("kind")).startswith("e2train export ")
    except (OSError, TrainError):  # such as a folder, and a file of another program
        return False


def load_exported(path: str | Path) -> DeployedNet:
    """The Brevitas model in a file of the format torch, ready to classify normalised images.

    Raises: TrainError when it is none, or any bit of it has changed.
    """
    content = read_sealed(Path(path), remedy=_AGAIN)
    if content.get("kind") != _KIND:
        raise TrainError(f"{path} is no exported model of the format torch; {_AGAIN}")
    trained = from_content(content, Path(path))
    try:
        scales = {name: _scales(of) for name, of in content["scales"].items()}
        with torch.random.fork_rng(devices=[]):
            net = deploy(_plain_model(trained), scales)
        net.load_state_dict(trained.state)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise TrainError(f"{path}: {' '.join(str(error).split())[:200]}; {_AGAIN}") from error
    return net


def _plain_model(trained: TrainedModel) -> ResidualNet:
    """A model of the same form without a device."""
    config = trained.config.changed(host="cpu")
    return make_model(config, len(trained.names), trained.format.shape, None)


def _deployed(trained: TrainedModel, scales: dict[str, ConvScales]) -> DeployedNet:
    """The trained weights in a model without a device."""
    model = _plain_model(trained)
    model.load_state_dict({name: trained.state[name] for name in model.state_dict()})
    return deploy(model, scales)


def _torch(net: DeployedNet, trained: TrainedModel, scales: dict[str, ConvScales]) -> bytes:
    content = to_content(replace(trained, state=net.state_dict()))
    of = {name: asdict(one) for name, one in scales.items()}
    return bytes(sealed({"kind": _KIND, **content, "scales": of}))


def _scales(of: dict[str, Any]) -> ConvScales:
    scale, offset = of["norm"] or ((), ())
    norm = (tuple(scale), tuple(offset)) if of["norm"] else None
    quantities: dict[str, Any] = {key: of[key] and Quantity(**of[key]) for key in ("x", "w", "y", "a")}
    return ConvScales(**quantities, norm=norm)


def _onnx(net: DeployedNet, trained: TrainedModel, *, form: str, batch: int | str) -> bytes:
    from e2train.nn.onnx_writer import write_onnx

    metadata = {
        "classes": json.dumps(trained.names, ensure_ascii=False),
        "image": json.dumps(asdict(trained.format)),  # input = (pixel / unit - mean) / std
        "weights_sha256": trained.weights_sha256,
    }
    dialect: Dialect = "qonnx" if form == "qonnx" else "onnx"
    model = write_onnx(net, image=trained.format.shape, dialect=dialect, metadata=metadata, batch=batch)
    return bytes(model.SerializeToString())


def _runner(net: DeployedNet, trained: TrainedModel, form: str, size: int) -> Callable[[Tensor], Logits]:
    """What computes the logits of batches of ``size`` as the format's own tool does."""
    if form == "torch":
        return lambda images: net(images).numpy()
    content = _onnx(net, trained, form=form, batch=size)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["logits"], {"images": images.numpy()})[0]
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    wrapped = ModelWrapper(onnx.load_from_string(content)).transform(InferShapes())
    return lambda images: execute_onnx(wrapped, {"images": images.numpy()})["logits"]


@torch.no_grad()
def _compare(
    model: ResidualNet,
    run: Callable[[Tensor], Logits],
    images: Dataset,
    form: str,
    *,
    chosen: NDArray[np.int64],
    size: int,
) -> None:
    """Make sure that each of the chosen images has the same class.

    Raises: TrainError when some have not.
    """
    host = next(model.parameters()).device
    differing = 0
    for start in range(0, len(chosen), size):
        batch, _ = images.take(chosen[start : start + size])
        own = model(batch.to(host)).argmax(dim=1).cpu().numpy()
        filled = torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])
        differing += int((run(filled)[: len(batch)].argmax(axis=1) != own).sum())
    if differing:
        raise TrainError(
            f"{form}: {differing} of {len(chosen)} test images have another class than in the run's "
            "evaluation; nothing was written; --unchecked writes it all the same"
        )
