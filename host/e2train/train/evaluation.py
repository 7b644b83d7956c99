# SPDX-License-Identifier: Apache-2.0
"""How many images of each class a model takes for which: evaluation.json in the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from e2train.nn import Group, ResidualNet
from e2train.train.data import Dataset
from e2train.train.errors import TrainError

__all__ = ["Confusion", "Evaluation", "classify", "read_evaluation", "tested_images"]

Confusion = NDArray[np.int64]  # (classes, classes): images of the class of a row, taken for that of a column

_BATCH = 120
_MOST = 1 << 32  # images


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a model takes images for."""

    tested: str  # "test", "validation", or where the images lie
    names: list[str]  # of the classes
    confusion: list[list[int]]
    weights_sha256: str = ""  # of the model; files of earlier versions have none

    def __post_init__(self) -> None:
        count = len(self.names)
        if not count or len(self.confusion) != count or any(len(row) != count for row in self.confusion):
            raise ValueError(f"the confusion of {count} classes is not {count} rows of {count} numbers")
        if not all(type(value) is int and 0 <= value <= _MOST for row in self.confusion for value in row):
            raise ValueError(f"a count of the confusion is no number in 0..{_MOST}")
        if not all(isinstance(name, str) for name in self.names):
            raise ValueError("a name of a class is no text")
        if not isinstance(self.weights_sha256, str):
            raise ValueError("weights_sha256 is no text")
        if not self.images:
            raise ValueError("nothing was tested")

    @property
    def images(self) -> int:
        """How many were tested."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of the images that were taken for their class."""
        return sum(row[index] for index, row in enumerate(self.confusion)) / self.images

    @property
    def by_class(self) -> list[float | None]:
        """The same of each class; None where it had no images."""
        return [row[index] / sum(row) if sum(row) else None for index, row in enumerate(self.confusion)]

    def to_json(self) -> str:
        """The text of evaluation.json."""
        return json.dumps({"accuracy": self.accuracy, **asdict(self)})


def read_evaluation(path: Path) -> Evaluation | None:
    """Read an evaluation.json; None where there is none.

    Raises: TrainError when it is damaged.
    """
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        needed = {key: content[key] for key in ("tested", "names", "confusion")}
        return Evaluation(**needed, weights_sha256=content.get("weights_sha256", ""))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise TrainError(f"{path} is damaged: {' '.join(str(error).split())[:100]}") from error


def tested_images(size: int, count: int) -> NDArray[np.int64]:
    """Which ``count`` images of a data set are tested (0: all): evenly spread, as it may be in order.

    >>> tested_images(10, 4).tolist(), tested_images(3, 0).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    count = min(size, count or size)
    return np.arange(count) * size // count


@torch.no_grad()
def classify(
    model: ResidualNet,
    data: Dataset,
    *,
    classes: int,
    count: int = 0,
    batch: int = _BATCH,
    host: torch.device | None = None,
    group: Group | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Confusion | None:
    """The confusion of ``count`` images of a data set (0: of all), over all ranks.

    None where it was stopped on the way.
    """
    model.eval()
    group, host = group or Group(), host or torch.device("cpu")
    chosen = tested_images(len(data), count)
    pairs = torch.zeros(classes * classes, dtype=torch.int64)
    for start in range(0, len(chosen), batch * group.size):
        if stopped():
            return None
        mine = chosen[start : start + batch * group.size][group.rank * batch :][:batch]
        if len(mine):
            images, labels = data.take(mine)
            found = model(images.to(host)).argmax(dim=1).cpu()
            pairs += torch.bincount(labels * classes + found, minlength=classes * classes)
    confusion: Confusion = group.sum(pairs).reshape(classes, classes).numpy()
    return confusion
