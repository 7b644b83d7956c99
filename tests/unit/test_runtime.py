# SPDX-License-Identifier: Apache-2.0
"""Any convolution, cut into frames, computed by the spec of the engine and put together again."""

import threading

import cases
import numpy as np
import pytest
from e2train.config import EngineConfig, load_config
from e2train.devices import (
    Closing,
    ConvShape,
    Counters,
    DeviceError,
    LayerCall,
    LayerResult,
    ShapeError,
    Transfer,
)
from e2train.devices.spec import SpecDevice
from e2train.numerics import ExactnessError
from e2train.runtime import Ledger, execute, plan

PYNQ = load_config("pynq_z2")


def engine(**changes) -> EngineConfig:
    """PYNQ-Z2's engine with other numbers."""
    fields = {name: getattr(PYNQ, name) for name in PYNQ.__slots__}
    return EngineConfig(**(fields | changes))


TINY = engine(name="tiny", x_depth=64, w_depth=128)  # everything is larger than its buffers
CONFIGS = {"pynq_z2": PYNQ, "kv260": load_config("kv260"), "tiny": TINY}


class Parallel(SpecDevice):
    """The spec, taking several transfers at once and noting who brought them."""

    parallel = 3

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.words: list[int] = []
        self._lock = threading.Lock()

    def transfer(self, words, *, reply_words):
        reply = super().transfer(words, reply_words=reply_words).reply
        assert reply.size == reply_words
        with self._lock:
            self.words.append(words.size)
        return Transfer(reply=reply, cycles=1000)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("case", cases.CORNERS, ids=str)
def test_every_corner_equals_the_spec(case, config, rng, assert_same_bits):
    device = SpecDevice(CONFIGS[config])
    for call, want, saturations in cases.calls(case, rng):
        result = execute(call, device)
        assert_same_bits(result.value, want, case=call.label, a=call.a, b=call.b)
        assert (result.saturations, result.counters.macs) == (saturations, case.shape.macs)


@pytest.mark.parametrize("index", range(25))
def test_random_convolutions_equal_the_spec(index, rng, assert_same_bits):
    case = cases.random_case(rng)
    for config in (PYNQ, TINY):
        for call, want, saturations in cases.calls(case, rng):
            result = execute(call, SpecDevice(config))
            assert_same_bits(result.value, want, case=call.label, a=call.a, b=call.b)
            assert result.saturations == saturations


def test_corners_reach_what_they_name(rng):
    by_name = {case.name: case for case in cases.CORNERS}

    def planned(name, mode):
        call = next(call for call, _, _ in cases.calls(by_name[name], rng) if call.mode == mode)
        return plan(call, PYNQ)

    assert planned("channels split", "forward").wide
    assert planned("input gradient split and saturates", "grad_input").wide
    assert not planned("resnet block", "forward").wide
    large = planned("image larger than the buffer", "forward").blocks
    assert all(block.rows.count * block.cols.count < 60 * 70 for block in large)
    assert any(block.k_tiles[0] for block in planned("weights larger than the buffer", "forward").blocks)
    assert not planned("no images", "forward").blocks
    assert len({block.problem for block in planned("down", "grad_input").blocks}) == 4
    assert any(block.header.x_count == PYNQ.x_depth for block in _full_buffer().blocks)
    for name in ("input gradient saturates", "input gradient split and saturates"):
        assert [saturations for _, _, saturations in cases.calls(by_name[name], rng)][1] > 0


def _full_buffer():
    """Two images that fill the buffer, so that positions in the padding wrap round its end."""
    shape = ConvShape(N=128, C=16, H=32, W=32, K=16, R=3, S=3, padding=(1, 1, 1, 1))
    x, w = np.zeros((128, 16, 32, 32), np.uint8), np.zeros((16, 16, 3, 3), np.int8)
    return plan(LayerCall(mode="forward", shape=shape, a=x, b=w), PYNQ)


def test_a_buffer_filled_to_its_last_vector_equals_the_spec(rng, assert_same_bits):
    config = engine(name="small", x_depth=128, w_depth=128)
    case = cases.ConvCase(
        name="full", shape=ConvShape(N=8, C=16, H=8, W=8, K=8, R=3, S=3, padding=(1, 1, 1, 1))
    )
    for call, want, _ in cases.calls(case, rng):
        assert_same_bits(execute(call, SpecDevice(config)).value, want, case=call.label)


def test_transfers_run_in_parallel_and_their_counters_add_up(rng, assert_same_bits):
    device = Parallel(TINY)
    case = next(case for case in cases.CORNERS if case.name == "image larger than the buffer")
    for call, want, _ in cases.calls(case, rng):
        device.words.clear()
        result = execute(call, device)
        assert_same_bits(result.value, want, case=call.label)
        assert len(device.words) == 3
        assert max(device.words) < 2 * min(device.words)
        assert result.counters.words_in == sum(device.words)
        assert result.counters.cycles == 3000
        assert result.counters.frames == len(plan(call, TINY).blocks)


def test_engines_share_the_transfers_and_the_longest_counts(rng, assert_same_bits):
    device = Parallel(engine(name="three", x_depth=64, w_depth=128, engines=3))
    case = next(case for case in cases.CORNERS if case.name == "image larger than the buffer")
    for call, want, _ in cases.calls(case, rng):
        device.words.clear()
        result = execute(call, device)
        assert_same_bits(result.value, want, case=call.label)
        assert (len(device.words), result.counters.cycles) == (3, 1000)


def test_frames_hold_as_many_samples_as_fit():
    first = _full_buffer().blocks[0]
    assert first.samples == (0, 2)
    assert first.k_tiles == (0, 1)
    assert first.header.xa0 == -33
    assert first.header.iterations == 2 * 32 * 32 * 9
    assert first.header.frame_words < first.header.iterations


def test_no_zero_of_a_stride_is_multiplied(rng):
    shape = ConvShape(N=1, C=8, H=8, W=8, K=16, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1))
    case = cases.ConvCase(name="down", shape=shape)
    call = next(call for call, _, _ in cases.calls(case, rng) if call.mode == "grad_input")
    iterations = sum(block.header.iterations for block in plan(call, PYNQ).blocks)
    assert iterations * PYNQ.macs_per_cycle == shape.macs


@pytest.mark.parametrize(
    ("mode", "shape", "message"),
    [
        (
            "forward",
            ConvShape(N=1, C=1347, H=7, W=7, K=1, R=7, S=7),
            "conv1: forward sums C*R*S = 66003 products, int32 is exact up to 66000; "
            "split the layer over its input channels",
        ),
        (
            "grad_input",
            ConvShape(N=1, C=1, H=7, W=7, K=2697, R=7, S=7),
            "conv1: grad_input sums K*R*S = 132153 products, int40 is exact up to 132104; "
            "split the layer over its output channels",
        ),
        (
            "grad_weight",
            ConvShape(N=1, C=1, H=4100, W=4100, K=1, R=1, S=1),
            "conv1: grad_weight sums N*P*Q = 16810000 products, int48 is exact up to 16800000; "
            "split the batch",
        ),
    ],
)
def test_sums_that_are_too_long_are_refused(mode, shape, message):
    s = shape
    tensors = {"x": ((s.N, s.C, s.H, s.W), np.uint8), "w": ((s.K, s.C, s.R, s.S), np.int8)}
    tensors["gy"] = ((s.N, s.K, s.P, s.Q), np.int16)
    roles = {"forward": ("x", "w"), "grad_input": ("gy", "w"), "grad_weight": ("x", "gy")}[mode]
    a, b = (np.zeros(*tensors[role]) for role in roles)
    with pytest.raises(ExactnessError) as error:
        execute(LayerCall(mode=mode, shape=shape, a=a, b=b, name="conv1"), SpecDevice(PYNQ))
    assert str(error.value) == message


def test_weights_of_minus_128_are_refused(rng):
    call, _, _ = next(cases.calls(cases.CORNERS[2], rng))
    call.b[0, 0, 0, 0] = -128
    with pytest.raises(ExactnessError, match=r"block \(forward\): weights must be in -127\.\.127"):
        execute(call, SpecDevice(PYNQ))


def test_operands_that_do_not_belong_to_the_shape_are_refused():
    shape = ConvShape(N=1, C=2, H=4, W=4, K=3, R=3, S=3)
    x, w = np.zeros((1, 2, 4, 4), np.uint8), np.zeros((3, 2, 3, 3), np.int8)
    with pytest.raises(ShapeError) as error:
        LayerCall(mode="forward", shape=shape, a=x.astype(np.int16), b=w, name="conv1")
    assert str(error.value) == "conv1 (forward): x is int16, must be uint8 or int8"
    with pytest.raises(ShapeError) as error:
        LayerCall(mode="forward", shape=shape, a=x[:, :1], b=w, name="conv1")
    assert str(error.value) == "conv1 (forward): x is (1, 1, 4, 4), must be (1, 2, 4, 4)"
    with pytest.raises(ShapeError, match=r"shift is 1, must be 0, or 0\.\.40 in grad_input"):
        LayerCall(mode="forward", shape=shape, a=x, b=w, shift=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"R": 8}, "the engine takes kernels of 1 to 7, not 8x3; run it on the host"),
        ({"stride": (3, 1)}, "the engine takes strides 1 and 2, not (3, 1); run it on the host"),
        ({"padding": (0, -1, 0, 0)}, "padding must be at least 0, not (0, -1, 0, 0)"),
        ({"H": 2}, "a 3x3 kernel does not fit a padded image of 2x9"),
    ],
)
def test_convolutions_that_the_engine_does_not_do_are_refused(changes, message):
    with pytest.raises(ShapeError) as error:
        ConvShape(**({"N": 1, "C": 1, "H": 9, "W": 9, "K": 1, "R": 3, "S": 3} | changes))
    assert str(error.value) == message


def test_a_damaged_reply_names_layer_device_and_cause(rng):
    class Damaged(SpecDevice):
        def transfer(self, words, *, reply_words):
            reply = super().transfer(words, reply_words=reply_words).reply
            reply[0] ^= np.uint64(1)
            return Transfer(reply=reply)

    call, _, _ = next(cases.calls(cases.CORNERS[2], rng))
    with pytest.raises(DeviceError) as error:
        execute(call, Damaged(PYNQ))
    assert str(error.value) == (
        "resnet block (forward) on spec: frame 1 of 1: the reply's check words do not match"
    )


def test_an_error_status_names_layer_device_and_cause(rng):
    class Noisy(SpecDevice):
        def transfer(self, words, *, reply_words):
            noisy = words.copy()
            noisy[20] ^= np.uint64(1)
            return super().transfer(noisy, reply_words=reply_words)

    call, _, _ = next(cases.calls(cases.CORNERS[2], rng))
    with pytest.raises(DeviceError) as error:
        execute(call, Noisy(PYNQ))
    assert str(error.value) == (
        "resnet block (forward) on spec: frame 1 of 1: the engine reports: "
        "the frame's check words do not match (status 7)"
    )


@pytest.mark.parametrize("config", [PYNQ, TINY], ids=lambda config: config.name)
def test_replies_to_equal_requests_of_others_are_tried_again_and_never_taken(config, rng, assert_same_bits):
    """As where two programs share a board: each call first gets what the call before it was answered."""

    class Shared(SpecDevice):
        tries = 2
        earlier: np.ndarray | None = None

        def transfer(self, words, *, reply_words):
            own = super().transfer(words, reply_words=reply_words)
            stale, self.earlier = self.earlier, None
            if stale is None:
                self.earlier = own.reply
            return own if stale is None else Transfer(reply=stale)

    shared = Shared(config)
    case = cases.CORNERS[2]
    rounds = [[call for call, _, _ in cases.calls(case, rng)] for _ in range(2)]
    for call in [call for pair in zip(*rounds, strict=True) for call in pair]:  # each after one of its form
        result = execute(call, shared)
        want = execute(call, SpecDevice(config)).value
        assert_same_bits(result.value, want, case=call.label, a=call.a, b=call.b)
    shared.tries, shared.earlier = 1, None
    first, second = (turn[0] for turn in rounds)
    execute(first, shared)
    with pytest.raises(
        DeviceError, match=r"^resnet block \(forward\) on spec: frame 1 of \d+: this is the reply to another"
    ):
        execute(second, shared)


def test_a_tensor_device_gets_the_call_itself(rng):
    class Direct(Closing):
        name = "direct"

        def compute(self, call):
            return LayerResult(value=call.a)

    call, _, _ = next(cases.calls(cases.CORNERS[2], rng))
    assert execute(call, Direct()).value is call.a


def test_the_ledger_keeps_layers_and_modes_apart(rng):
    ledger, device = Ledger(), SpecDevice(PYNQ)
    for _ in range(2):
        for call, _, _ in cases.calls(cases.CORNERS[2], rng):
            ledger.add(call, execute(call, device))
    before = ledger.snapshot()
    assert [(row.name, row.mode, row.calls) for row in before] == [
        ("resnet block", "forward", 2),
        ("resnet block", "grad_input", 2),
        ("resnet block", "grad_weight", 2),
        ("resnet block", "grad_msb", 2),
    ]
    assert ledger.total().macs == 8 * cases.CORNERS[2].shape.macs
    assert ledger.total().cycles is None
    ledger.clear()
    assert (len(before), ledger.snapshot()) == (4, ())


def test_counters_add_up_with_and_without_a_clock():
    timed = Counters() + Counters(macs=1, cycles=10) + Counters(cycles=5, frames=1)
    assert timed == Counters(macs=1, cycles=15, frames=1)
    assert timed + Counters(macs=2) == Counters(macs=3, cycles=None, frames=1)
    assert timed + Counters(host_macs=7) == Counters(macs=1, host_macs=7, cycles=15, frames=1)
    assert Counters(host_macs=7) + Counters(host_macs=1) == Counters(host_macs=8)


@pytest.mark.parametrize("name", ["pynq_z2", "kv260", "zcu104"])
@pytest.mark.parametrize(("channels", "size", "kernel"), [(2048, 1, 3), (1024, 2, 7), (2048, 2, 3)])
def test_no_frame_answers_more_than_a_transfer_holds(name, channels, size, kernel):
    pad = (kernel // 2,) * 4
    image = {"H": size, "W": size, "padding": pad}
    shape = ConvShape(N=1, C=channels, K=channels, R=kernel, S=kernel, **image)
    x = np.broadcast_to(np.uint8(0), (1, channels, size, size))
    gy = np.broadcast_to(np.int16(0), (1, channels, size, size))
    layer_plan = plan(LayerCall(mode="grad_weight", shape=shape, a=x, b=gy), load_config(name))
    assert max(block.header.result_words for block in layer_plan.blocks) <= 1 << 20
