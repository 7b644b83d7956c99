# SPDX-License-Identifier: Apache-2.0
"""A device with resident tensors against the NumPy spec: every result and every byte of the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import resident_cases
from e2train.devices.chains.soc import SocResident
from e2train.devices.memory import SpecResident
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Operation,
    Reduction,
    ResidentDevice,
    WeightGradient,
    run_operation,
    sample_bytes,
)
from resident_cases import Case

__all__ = ["compare", "compare_together"]


def compare(
    device: ResidentDevice, case: Case, rng: np.random.Generator, assert_same_bits: Callable[..., None]
) -> None:
    """Run a case on a device and on the spec, in memory full of other bytes, and compare all there is."""
    if resident_cases.is_refused(device, case.call, case.nbytes):
        return
    inputs = {f"input{index}": values for index, (_, values) in enumerate(case.inputs)}
    before = rng.integers(0, 256, case.nbytes).astype(np.uint8)
    got, got_memory = _run(device, case, before)
    want, want_memory = _run(SpecResident(), case, before)
    assert got.keys() == want.keys()
    for name, value in got.items():
        assert_same_bits(value, want[name], case=f"{name} of {case}", **inputs)
    assert_same_bits(got_memory, want_memory, case=f"memory of {case}", **inputs)
    untouched = _outside(case)
    for tensor, _ in case.inputs:
        untouched &= ~_bytes_of(tensor, case.nbytes)
    assert_same_bits(got_memory[untouched], before[untouched], case=f"bytes around {case}", **inputs)


def compare_together(
    device: SocResident, samples: int, rng: np.random.Generator, assert_same_bits: Callable[..., None]
) -> list[Operation]:
    """Run what a step does between two answers of the host: overlapping, and on the spec one by one."""
    calls, nbytes = _layer_backward(samples, rng)
    before = rng.integers(0, 256, nbytes).astype(np.uint8)
    spec = SpecResident()
    whole = _whole(nbytes)
    for each in (device, spec):
        each.reserve(nbytes)
        each.write(whole, before.reshape(-1, 16).T.reshape(whole.shape))
    for call, got in zip(calls, device.run_interleaved(calls), strict=True):
        want = _results(run_operation(spec, call))
        for name, value in _results(got).items():
            assert_same_bits(value, want[name], case=f"{name} of {call}")
    assert_same_bits(device.read(whole), spec.read(whole), case="memory")
    return calls


def _layer_backward(samples: int, rng: np.random.Generator) -> tuple[list[Operation], int]:
    """Operations on 32 x 32 pixels of 16 channels, most of which read what others write."""
    nbytes = 0

    def tensor(kind: Any) -> DeviceTensor:
        nonlocal nbytes
        size = sample_bytes(kind, 16, 32, 32)
        offsets = nbytes + np.arange(samples) * size
        nbytes += samples * size
        return DeviceTensor(kind=kind, C=16, H=32, W=32, offsets=offsets)

    g, y, ga, y_before, g_before = (tensor("int16") for _ in range(5))
    x, gy, gy_before = tensor("uint8"), tensor("int8"), tensor("int8")
    (a, b), w = rng.integers(-99, 99, (2, 16)), rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8)
    where: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1, 1, 1)}
    calls: list[Operation] = [
        WeightGradient(x=x, gy=gy_before, kernel=(3, 3), **where),
        Affine(u=g, v=y, out=gy, a=a, b=b, d=a + b, shift=13),
        Convolution(mode="grad_input", source=gy, destination=ga, w=w, shift=4, **where),
        WeightGradient(x=x, gy=gy, kernel=(3, 3), **where),
        Affine(u=ga, v=g, mask=x, mask_out=True, out=g, a=a, b=b, d=a, shift=6),  # in place
        Reduction(u=g, v=y_before, mask=x),
        Affine(u=y_before, out=g_before, a=b, b=b, d=b, shift=6, sums=True),
        Convolution(mode="grad_input", source=gy, destination=g_before, w=-w, shift=6, **where),
    ]
    return calls, nbytes


def _whole(nbytes: int) -> DeviceTensor:
    return DeviceTensor(kind="uint8", C=16, H=nbytes // 16, W=1, offsets=np.zeros(1, np.int64))


def _run(device: ResidentDevice, case: Case, before: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    whole = _whole(case.nbytes)
    device.reserve(case.nbytes)
    device.write(whole, before.reshape(-1, 16).T.reshape(whole.shape))
    for tensor, values in case.inputs:
        device.write(tensor.seen("whole"), values)
    returned = getattr(device, case.operation)(case.call)
    after = device.read(whole).reshape(16, -1).T.reshape(-1)
    return _results(returned), after


def _results(returned: Any) -> dict[str, np.ndarray]:
    if isinstance(returned, np.ndarray):
        return {"gradient": returned}
    if isinstance(returned, tuple):
        return dict(zip(("sums", "products"), returned, strict=True))
    report = {name: getattr(returned, name) for name in ("largest", "saturations", "sums", "squares")}
    return {name: np.asarray(value) for name, value in report.items() if value is not None}


def _bytes_of(tensor: DeviceTensor, nbytes: int) -> np.ndarray:
    found = np.zeros(nbytes, bool)
    for offset in tensor.offsets:
        found[offset : offset + tensor.sample_bytes] = True
    return found


def _outside(case: Case) -> np.ndarray:
    written = () if case.destination is None else (case.destination,)
    return ~sum((_bytes_of(tensor, case.nbytes) for tensor in written), np.zeros(case.nbytes, bool))
