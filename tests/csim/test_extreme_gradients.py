# SPDX-License-Identifier: Apache-2.0
"""Weight gradients of the largest operands, two to a multiplier: -128 is a gradient, though not a weight."""

import frame_cases as fc
import numpy as np
import pytest
from e2train import numerics
from e2train.devices import open_device


@pytest.mark.parametrize("x_value", [255, 1], ids=str)
@pytest.mark.parametrize("low", [-128, -1, 127], ids=str)
@pytest.mark.parametrize("high", [-128, -1, 127], ids=str)
def test_two_extreme_gradients_do_not_touch_each_other(low, high, x_value):
    x = np.full((16, 20, 20), x_value, np.uint8)
    gy = np.full((16, 20, 20), low, np.int8)
    gy[8:] = high  # output channels k and k + 8 share a multiplier
    header, parts = fc.weight_gradient(
        numerics.frames.Mode.GRAD_WEIGHT, x, gy, kernel=(1, 1), step=(1, 1), start=(0, 0)
    )
    with open_device("csim") as device:
        reply = device.transfer(fc.frame(header, *parts), reply_words=header.reply_words).reply
    got = fc.gradient(reply[: header.result_words], header, K=16, C=16, kernel=(1, 1))
    assert (got[:8] == 400 * x_value * low).all()
    assert (got[8:] == 400 * x_value * high).all()
