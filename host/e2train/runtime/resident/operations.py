# SPDX-License-Identifier: Apache-2.0
"""Operations of a resident step with real numbers for coefficients: scales in, integers out, work entered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2train.devices.protocol import Counters
from e2train.devices.resident import (
    Affine,
    Convolution,
    DeviceTensor,
    Reduction,
    ResidentDevice,
    WeightGradient,
)
from e2train.numerics.elementwise import LARGEST, Written, kind_range
from e2train.numerics.rounding import Ints
from e2train.numerics.scales import DivergenceError, Floats, kind_exponent, mantissas
from e2train.runtime.ledger import Ledger, LedgerMode, LedgerRow
from e2train.runtime.resident.network import Activation, ConvNorm
from e2train.runtime.resident.queue import Later, OperationQueue
from e2train.runtime.resident.scaled import (
    Scaled,
    addressed_bytes,
    addressed_values,
    ceiling,
    integer_ceiling,
    safe_shift,
)
from e2train.runtime.resident.scales import Scales

__all__ = ["TRIAL", "Operations"]

TRIAL = "trial"
"""The layer under which a ledger has the first runs of operations whose results had no scale yet."""

Indices = NDArray[np.int64]

_MOST_SHIFT = 40
_REPORT_BYTES = 16  # largest magnitude and saturations of an operation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Options:
    """Of an affine operation, but for operands and coefficients."""

    mask: Scaled | None
    mask_out: bool
    activation: Activation
    sums: bool
    steady: bool
    name: str


class Operations:
    """The operations of one rank's device; every one is entered in the ledger."""

    def __init__(
        self,
        device: ResidentDevice,
        scales: Scales,
        ledger: Ledger,
        *,
        over_ranks: Callable[[Floats], Floats],
    ) -> None:
        """``over_ranks`` gives the element-wise maximum over all ranks, each of which must ask alike."""
        self.device = device
        self.scales = scales
        self._ledger = ledger
        self._queue = OperationQueue(device)
        self.over_ranks = over_ranks
        self.begin_step(training=True)

    def settle(self) -> None:
        """Run what waits until somebody wants it."""
        self._queue.settle()

    def begin_step(self, *, training: bool) -> None:
        """Begin a step, in training one in which all ranks ask alike; it depends on no step before it."""
        self.training = training
        self._phase = 0  # of the last affine operation in the step whose coefficients change

    def drop_step(self) -> None:
        """Forget what waits and what was seen: the step is given up."""
        self._queue.drop()
        self.scales.drop_step()

    def load_images(self, tensor: DeviceTensor, images: NDArray[np.float32]) -> Scaled:
        """Quantise images on the host and write them. Shapes: (N, C, H, W)."""
        return self._load("images", tensor, images, name="images")

    def load_gradient(self, tensor: DeviceTensor, gradient: Floats) -> Scaled:
        """The gradient of channel averages, the same for all pixels. Shapes: (N, C)."""
        return self._load("pooled", tensor, gradient[:, :, None, None], name="pooled").seen("broadcast")

    def convolve(
        self,
        mode: Literal["forward", "grad_input"],
        conv: ConvNorm,
        source: Scaled,
        w: NDArray[np.int8],
        w_exponent: int,
        destination: DeviceTensor,
        site: str,
        *,
        sums: bool = False,
    ) -> tuple[Scaled, Later[Written]]:
        """A convolution into ``destination``, whose scale is that of ``site``."""
        raw = source.exponent + w_exponent

        def run(shift: int, *, trial: bool = False) -> Later[Written]:
            call = Convolution(
                mode=mode,
                source=source.tensor,
                destination=destination,
                w=w,
                stride=conv.shape.stride,
                padding=conv.shape.padding,
                shift=shift,
                depthwise=conv.depthwise,
                sums=sums,
                name=conv.name,
            )

            def done(written: Written, counters: Counters) -> None:
                self._see(site, written, raw + shift, trial=trial)
                self._enter(
                    conv.name,
                    mode,
                    written,
                    counters,
                    trial=trial,
                    macs=call.macs,
                    reads=(source.tensor, None),
                    b_values=w.size,
                    writes=destination,
                    dram_bytes=w.nbytes,
                    host_bytes=(w.nbytes if mode == "forward" else 0) + (16 * destination.C if sums else 0),
                )

            return self._queue.submit(call, done)

        if not self.scales.known(site):
            trial = safe_shift(conv, w, mode, source.tensor.kind)
            largest = run(trial, trial=True).get().largest
            self._start(site, float(np.ldexp(float(largest), raw + trial)))
        shift = min(max(self.scales.exponent(site) - raw, 0), _MOST_SHIFT)
        written = run(shift)
        return Scaled(tensor=destination, exponent=raw + shift), written

    def affine(
        self,
        site: str,
        out: DeviceTensor,
        *,
        u: Scaled,
        a: Floats | None = None,
        v: Scaled | None = None,
        b: Floats | None = None,
        d: Floats | None = None,
        mask: Scaled | None = None,
        mask_out: bool = False,
        activation: Activation = "none",
        sums: bool = False,
        steady: bool = False,
        in_place: bool = False,
        name: str = "",
    ) -> tuple[Scaled, Later[Written]]:
        """a*u + b*v + d into ``out``, whose scale is that of ``site``; sums per sample where asked.

        Coefficients left out are one; ``in_place`` overwrites v; ``steady`` ones dither in the others' phase.
        """
        steady = steady or (a is None and b is None and d is None)
        a = np.ones(out.C) if a is None else a
        b = np.full(out.C, 0.0 if v is None else 1.0) if b is None else b
        d = np.zeros(out.C) if d is None else d
        options = _Options(
            mask=mask, mask_out=mask_out, activation=activation, sums=sums, steady=steady, name=name
        )
        exponent: int | None = None
        if not self.scales.known(site):
            most = np.abs(a) * u.most + np.abs(b) * (v.most if v else 0.0) + np.abs(d)
            exponent = kind_exponent(min(float(most.max()), ceiling(activation)), "int16")
            if v is None or not in_place:
                trial_run = self._affine(site, out, exponent, (u, a), (v, b), d, options, trial=True)
                self._start(site, float(np.ldexp(float(trial_run.get().largest), exponent)))
            else:  # a trial would overwrite what it reads
                self._start(site, float(np.ldexp(1.0, exponent + 14)), guessed=True)
        if exponent is None or self.scales.known(site):  # else all is zero, in any scale
            exponent = self.scales.exponent(site)
        written = self._affine(site, out, exponent, (u, a), (v, b), d, options)
        return Scaled(tensor=out, exponent=exponent, activation=activation), written

    def _affine(
        self,
        site: str,
        out: DeviceTensor,
        exponent: int,
        first: tuple[Scaled, Floats],
        second: tuple[Scaled | None, Floats],
        d: Floats,
        options: _Options,
        *,
        trial: bool = False,
    ) -> Later[Written]:
        """An affine operation of operands with their coefficients, into integers of this exponent."""
        (u, a), (v, b), mask = first, second, options.mask
        scales = u.exponent - exponent, (exponent if v is None else v.exponent) - exponent, -exponent
        try:
            rounded = mantissas(*map(np.ldexp, (a, b, d), scales))
        except DivergenceError as error:
            if out.N:
                raise DivergenceError(f"{site} ({options.name}): {error}") from None
            rounded = mantissas(*(np.zeros(out.C) for _ in range(3)))  # for nothing
        self._phase = self._phase if options.steady else rounded.phase
        call = Affine(
            u=u.tensor,
            v=_tensor(v),
            mask=_tensor(mask),
            out=out,
            a=rounded.a,
            b=rounded.b,
            d=rounded.d,
            shift=rounded.shift,
            relu=options.activation != "none",
            ceiling=integer_ceiling(options.activation, exponent),
            mask_limit=LARGEST if mask is None else mask.ceiling,
            mask_out=options.mask_out,
            sums=options.sums,
            dither=self._phase if self.scales.dithers(site) else None,
            name=options.name,
        )

        def done(written: Written, counters: Counters) -> None:
            self._see(site, written, exponent, trial=trial)
            self._enter(
                call.name,
                "affine",
                written,
                counters,
                trial=trial,
                elementwise=(1 if v is None else 2) * _values(out),
                reads=(call.u, call.v, call.mask),
                writes=out,
                host_bytes=12 * out.C + (8 * out.N * out.C if call.sums else 0),
            )

        return self._queue.submit(call, done)

    def reduce(
        self, u: Scaled, v: Scaled, mask: Scaled | None, *, per_sample: bool, name: str
    ) -> tuple[Floats, Floats]:
        """Sums of u and u*v by channel, in real numbers; over all samples, or of each.

        Shapes: (C,), or (N, C) per sample.
        """
        call = Reduction(
            u=u.tensor,
            v=v.tensor,
            mask=_tensor(mask),
            mask_limit=LARGEST if mask is None else mask.ceiling,
            per_sample=per_sample,
            name=name,
        )

        def done(found: tuple[Ints, Ints], counters: Counters) -> None:
            self._enter(
                name,
                "reduce",
                None,
                counters,
                elementwise=2 * _values(u.tensor),
                reads=(u.tensor, v.tensor, _tensor(mask)),
                host_bytes=8 * (found[0].size + found[1].size),
            )

        sums, products = self._queue.submit(call, done).get()
        return (
            np.ldexp(sums.astype(np.float64), u.exponent),
            np.ldexp(products.astype(np.float64), u.exponent + v.exponent),
        )

    def weight_gradient(
        self, conv: ConvNorm, x: Scaled, gy: Scaled, *, x_bits: int, g_bits: int
    ) -> Later[Ints]:
        """Integers of a weight gradient, from so many high bits of x and gy (0: all)."""
        s = conv.shape
        call = WeightGradient(
            x=x.tensor,
            gy=gy.tensor,
            kernel=(s.R, s.S),
            stride=s.stride,
            padding=s.padding,
            depthwise=conv.depthwise,
            x_bits=x_bits,
            g_bits=g_bits,
            name=conv.name,
        )

        def done(gw: Ints, counters: Counters) -> None:
            moved = gw.size * (8 if call.mode == "grad_weight" else 4)
            self._enter(
                conv.name,
                call.mode,
                None,
                counters,
                macs=call.macs,
                reads=(x.tensor, gy.tensor),
                results=gw.size,
                dram_bytes=moved,
                host_bytes=moved,
            )

        return self._queue.submit(call, done)

    def _load(self, site: str, tensor: DeviceTensor, values: NDArray[Any], *, name: str) -> Scaled:
        largest = max(float(values.max(initial=0.0)), -float(values.min(initial=0.0)))
        if not self.scales.known(site):
            self._start(site, largest)
        exponent = self.scales.exponent(site)
        low, high = kind_range(tensor.kind)
        raw = values * values.dtype.type(2.0**-exponent)
        np.rint(raw, out=raw)
        beyond = 0
        if raw.size and not low <= float(raw.min()) <= float(raw.max()) <= high:
            beyond = int(np.count_nonzero((raw < low) | (raw > high)))
            np.clip(raw, low, high, out=raw)
        ints = raw.astype(tensor.kind)
        self.settle()  # what waits may read what is overwritten
        self.device.write(tensor, ints)
        self.scales.see(site, largest)
        written = Written(largest=0, saturations=beyond)
        moved = values.size * ints.itemsize
        counters = self.device.take_counters()
        self._enter(name, "load", written, counters, reads=(), writes=tensor, host_bytes=moved)
        return Scaled(tensor=tensor, exponent=exponent)

    def _start(self, site: str, magnitude: float, *, guessed: bool = False) -> None:
        """Start a scale; an evaluation, in which ranks do not ask alike, takes it back in the end."""
        agreed = self.over_ranks(np.array([magnitude]))[0] if self.training else magnitude
        self.scales.start(site, float(agreed), guessed=guessed)

    def _see(self, site: str, written: Written, exponent: int, *, trial: bool) -> None:
        """Take notice of the magnitude of a result."""
        if not trial:
            self.scales.see(site, float(np.ldexp(float(written.largest), exponent)))

    def _enter(
        self,
        name: str,
        mode: LedgerMode,
        written: Written | None,
        counters: Counters,
        *,
        trial: bool = False,
        reads: tuple[DeviceTensor | None, ...],
        writes: DeviceTensor | None = None,
        macs: int = 0,
        elementwise: int = 0,
        b_values: int = 0,
        results: int = 0,
        dram_bytes: int = 0,
        host_bytes: int = 0,
    ) -> None:
        if trial and written:
            name, written = TRIAL, replace(written, saturations=0)
        addressed = [addressed_bytes(tensor, writes) for tensor in reads if tensor is not None]
        values = [addressed_values(tensor, writes) for tensor in reads if tensor is not None]
        self._ledger.enter(
            LedgerRow(
                name=name,
                mode=mode,
                calls=1,
                saturations=written.saturations if written else 0,
                a_values=sum(values[:1]),
                b_values=b_values + sum(values[1:]),
                results=results or (_values(writes) if writes else 0),
                counters=replace(
                    counters,
                    macs=macs,
                    elementwise=elementwise,
                    dram_bytes=dram_bytes + sum(addressed) + (writes.nbytes if writes else 0),
                    host_bytes=host_bytes + (_REPORT_BYTES if written else 0),
                ),
            )
        )


def _tensor(scaled: Scaled | None) -> DeviceTensor | None:
    return None if scaled is None else scaled.tensor


def _values(tensor: DeviceTensor) -> int:
    return tensor.N * tensor.C * tensor.H * tensor.W
