# SPDX-License-Identifier: Apache-2.0
"""A device with resident tensors against the NumPy spec: every result and every byte of the memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import resident_cases
from e2train.devices.memory import SpecResident
from e2train.devices.resident import DeviceTensor, ResidentDevice
from resident_cases import Case

__all__ = ["compare"]


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


def _run(device: ResidentDevice, case: Case, before: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    whole = DeviceTensor(kind="uint8", C=16, H=case.nbytes // 16, W=1, offsets=np.zeros(1, np.int64))
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
