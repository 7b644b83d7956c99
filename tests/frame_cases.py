# SPDX-License-Identifier: Apache-2.0
"""Frames of one sample by hand, as a planner would make them, and a frame's words from its parts."""

from dataclasses import replace

import numpy as np
from e2train.numerics.blocks import block_count, to_blocks
from e2train.numerics.frames import Header, Kind, Level, Mode, check_sums, encode_header
from e2train.numerics.frames.layout import LEVELS

KINDS = {"uint8": Kind.UINT8, "int8": Kind.INT8, "int16": Kind.INT16}
DELTAS = ("dy", "dx", "dxa", "dwa")


def nest(*loops: dict[str, int]) -> tuple[Level, ...]:
    """Levels of a header from loops with absolute strides, innermost first."""
    levels, travelled = [], dict.fromkeys(DELTAS, 0)
    for loop in loops:
        levels.append(Level(limit=loop["limit"], **{k: loop.get(k, 0) - v for k, v in travelled.items()}))
        travelled = {k: v + (loop["limit"] - 1) * loop.get(k, 0) for k, v in travelled.items()}
    return (*levels, *[Level()] * (LEVELS - len(levels)))


def as_words(*parts: np.ndarray) -> np.ndarray:
    """Payload, part behind part."""
    return np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint64) for part in parts])


def frame(header: Header, *parts: np.ndarray, more: bool = False) -> np.ndarray:
    """The words of one frame."""
    body = np.concatenate(
        [encode_header(replace(header, more=more)), as_words(*parts)]
        if parts
        else [encode_header(replace(header, more=more))]
    )
    checks = [] if header.unchecked else check_sums(body)
    return np.concatenate([body, np.array(checks, np.uint64)])


def blocks(values: np.ndarray) -> np.ndarray:
    """One sample (C, H, W) as it lies in memory: (blocks, H, W, 16)."""
    return to_blocks(values[None])[0]


def coefficients(a: np.ndarray, b: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Coefficient words of the channels, zeros for the lanes left over."""
    rows = np.zeros(block_count(len(a)) * 16, [("a", "<i2"), ("b", "<i2"), ("d", "<i4")])
    rows["a"][: len(a)], rows["b"][: len(a)], rows["d"][: len(a)] = a, b, d
    return rows


def weight_rows(w: np.ndarray, k_lanes: int) -> np.ndarray:
    """Weights (K, C, R, S) as rows (k tiles, C blocks, R, S, k_lanes, 16)."""
    K, C, R, S = w.shape
    tiles, depth = -(-K // k_lanes), block_count(C)
    padded = np.zeros((tiles * k_lanes, depth * 16, R, S), np.int8)
    padded[:K, :C] = w
    return padded.reshape(tiles, k_lanes, depth, 16, R, S).transpose(0, 2, 4, 5, 1, 3)


def convolution(
    mode: Mode,
    source: np.ndarray,
    w: np.ndarray,
    *,
    size: tuple[int, int],
    step: tuple[int, int],
    start: tuple[int, int],
    **fields: int,
) -> tuple[Header, tuple[np.ndarray, ...]]:
    """A frame for a whole sample: windows of w, from ``start`` on, every ``step`` positions of the source."""
    (C, H, W), (K, _, R, S), (P, Q) = source.shape, w.shape, size
    depth = block_count(C)
    kind = KINDS[source.dtype.name]
    k_lanes = 8 if kind == Kind.INT16 else 16
    tiles = 16 // k_lanes  # of a pixel
    row = S * R * depth
    levels = nest(
        {"limit": S, "dx": 1, "dxa": 1, "dwa": 1},
        {"limit": R, "dy": 1, "dxa": W, "dwa": S},
        {"limit": depth, "dxa": H * W, "dwa": S * R},
        {"limit": tiles, "dwa": row},
        {"limit": Q, "dx": step[1], "dxa": step[1]},
        {"limit": P, "dy": step[0], "dxa": step[0] * W},
        {"limit": block_count(K), "dwa": tiles * row},
    )
    header = Header(
        mode=mode,
        ic_lanes=16,
        oc_lanes=8,
        x_kind=kind,
        x_count=depth * H * W,
        w_count=block_count(K) * tiles * row * k_lanes,
        H=H,
        W=W,
        y0=start[0],
        x0=start[1],
        xa0=start[0] * W + start[1],
        depth=3,
        levels=levels,
        **fields,
    )
    rows = weight_rows(w, k_lanes)
    missing = np.zeros((block_count(K) * tiles - len(rows), *rows.shape[1:]), np.int8)
    return header, (blocks(source), rows, missing)


def weight_gradient(
    mode: Mode,
    x: np.ndarray,
    gy: np.ndarray,
    *,
    kernel: tuple[int, int],
    step: tuple[int, int],
    start: tuple[int, int],
    **fields: int,
) -> tuple[Header, tuple[np.ndarray, ...]]:
    """A frame for a whole sample: sums over output positions, for each tap and pair of blocks."""
    (C, H, W), (K, P, Q), (R, S) = x.shape, gy.shape, kernel
    depth, kinds = block_count(C), (KINDS[x.dtype.name], KINDS[gy.dtype.name])
    vectors = 2 if kinds[1] == Kind.INT16 else 1  # of a pixel of gy
    tiles = 2 if vectors == 2 and mode == Mode.GRAD_WEIGHT else 1
    levels = nest(
        {"limit": Q, "dx": step[1], "dxa": step[1], "dwa": vectors},
        {"limit": P, "dy": step[0], "dxa": step[0] * W, "dwa": Q * vectors},
        {"limit": S, "dx": 1, "dxa": 1},
        {"limit": R, "dy": 1, "dxa": W},
        {"limit": depth, "dxa": H * W},
        {"limit": tiles, "dwa": 1},
        {"limit": block_count(K), "dwa": P * Q * vectors},
    )
    header = Header(
        mode=mode,
        ic_lanes=16,
        oc_lanes=8,
        x_kind=kinds[0],
        w_kind=kinds[1],
        x_count=depth * H * W,
        w_count=block_count(K) * P * Q * vectors,
        H=H,
        W=W,
        y0=start[0],
        x0=start[1],
        xa0=start[0] * W + start[1],
        depth=2,
        levels=levels,
        **fields,
    )
    return header, (blocks(x), blocks(gy))


def gradient(results: np.ndarray, header: Header, *, K: int, C: int, kernel: tuple[int, int]) -> np.ndarray:
    """Weight gradient (K, C, R, S) from a frame's results."""
    shape = block_count(K), -1, block_count(C), *kernel, 16, 8  # k block, k tile, c block, taps, lanes
    if header.pairs:  # k lane o and o + 8 side by side
        sums = results.view(np.int32).reshape(*shape, 2).transpose(0, 1, 7, 6, 2, 5, 3, 4)
    else:
        sums = results.view(np.int64).reshape(shape).transpose(0, 1, 6, 2, 5, 3, 4)
    whole = sums.reshape(block_count(K) * 16, block_count(C) * 16, *kernel)
    return whole[:K, :C].astype(np.int64)


def strides(view: str, operand: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int]:
    """Of an operand (C, h, w) by column, row and plane of a result of ``size`` (H, W), in half pixels.

    Of a strided operand only every second row is in the frame.
    """
    _, h, w = operand.shape
    plane = 2 * (size[0] if view == "strided" else h) * w
    return {"whole": (2, 2 * w), "strided": (4, 2 * w), "spread": (1, w), "broadcast": (0, 0)}[view] + (
        plane,
    )


def elements(
    mode: Mode,
    u: np.ndarray,
    v: np.ndarray | None,
    *,
    size: tuple[int, int, int],
    rows: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    views: tuple[str, str] = ("whole", "whole"),
    **fields: int,
) -> tuple[Header, tuple[np.ndarray, ...]]:
    """A frame for a whole sample of an element-wise operation."""
    C, H, W = size
    planes = block_count(C)
    pairs = [(u, views[0]), (u if v is None else v, views[1])]
    u_steps, v_steps = (strides(view, operand, (H, W)) for operand, view in pairs)
    loops = zip((W, H, planes), u_steps, v_steps, (1, 0, 0), (0, 1, 0), strict=True)
    levels = nest(
        {"limit": 4},
        *({"limit": n, "dxa": u, "dwa": v, "dx": dx, "dy": dy} for n, u, v, dx, dy in loops),
    )
    operands = [stored(operand, view) for operand, view in pairs]
    w_kind = Kind.INT8 if v is None else KINDS[v.dtype.name]
    header = Header(
        mode=mode,
        ic_lanes=16,
        oc_lanes=8,
        x_kind=KINDS[u.dtype.name],
        w_kind=w_kind,
        x_count=operands[0].size // 16,
        w_count=0 if v is None else operands[1].nbytes // 16,
        mask_count=0 if mask is None else planes * H * W,
        mask_signed=int(mask is not None and mask.dtype == np.int8),
        rows=0 if rows is None else planes,
        x_spread=int(views[0] == "spread"),
        w_spread=int(views[1] == "spread"),
        depth=3,
        plane=H * W,
        levels=levels,
        **fields,
    )
    parts = (rows, operands[0], None if v is None else operands[1], None if mask is None else blocks(mask))
    return header, tuple(part for part in parts if part is not None)


def stored(values: np.ndarray, view: str) -> np.ndarray:
    """What a frame takes of an operand: of a strided one every second row."""
    whole = blocks(values)
    return whole[:, ::2] if view == "strided" else whole
