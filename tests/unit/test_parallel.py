# SPDX-License-Identifier: Apache-2.0
"""Ranks that train together: two processes that exchange through gloo."""

import json
import math
import multiprocessing
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.distributed as dist
from e2train.devices import Counters
from e2train.devices.emulator import Emulator
from e2train.devices.protocol import ConvShape, LayerCall
from e2train.nn import Group, OffloadContext, SkipPolicy, digits_net, offload, share
from e2train.nn.parallel import Processes, pack_signs, unpack_signs
from e2train.numerics.psg import SIGN_SCALES, Psg
from e2train.runtime import Ledger
from e2train.train import PRESETS, Session, TrainError, run_training
from e2train.train.ranks import average_statistics, check_alike, combine_gradients
from e2train.train.run_ledger import RankLedger, rows_from
from hypothesis import given
from hypothesis import strategies as st

RANKS = 2
SIGNS = st.lists(st.sampled_from([-1, 0, 1]), max_size=40)


class Ranks:
    """Two processes that have met, started once for all tests, and again after a failure."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.meetings = 0
        self.pools: list[ProcessPoolExecutor] = []

    def __call__(self, work) -> None:
        """Run ``work(group)`` on every rank; its assertions are the test's."""
        if not self.pools:
            self.meetings += 1
            meeting = str(self.folder / f"meeting{self.meetings}")
            context = multiprocessing.get_context("spawn")
            self.pools = [
                ProcessPoolExecutor(1, mp_context=context, initializer=_join, initargs=(rank, meeting))
                for rank in range(RANKS)
            ]
        runs = [pool.submit(_run, work) for pool in self.pools]
        done, waiting = wait(runs, timeout=100, return_when=FIRST_EXCEPTION)
        failures = [error for run in done if (error := run.exception())]
        if failures or waiting:
            self.end()
        for error in failures:
            raise error
        assert not waiting, "a rank waits for the other"

    def end(self) -> None:
        """Let no rank wait for one that has failed."""
        for pool in self.pools:
            for process in pool._processes.values():
                process.kill()
            pool.shutdown()
        self.pools = []


def _join(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)


def _run(work) -> None:
    work(Processes())


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    ranks = Ranks(tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.end()


@given(signs=SIGNS)
def test_packed_signs_come_back(signs):
    packed = pack_signs(torch.tensor(signs, dtype=torch.int64))
    assert packed.numel() == -(-len(signs) // 4)
    assert unpack_signs(packed, len(signs)).tolist() == signs


def exchange(group: Group) -> None:
    mine = torch.tensor([1, 5]) + 10 * group.rank
    assert group.sum(mine).tolist() == [12, 20]
    assert group.max(mine).tolist() == [11, 15]
    for rank in range(RANKS):  # a number that one rank lacks is missed by all
        assert group.max(torch.tensor([math.nan if group.rank == rank else 1.0])).item() == math.inf
    assert mine.tolist() == [1 + 10 * group.rank, 5 + 10 * group.rank]  # what was given stays as it was
    assert group.any(group.rank == 1)
    assert not group.any(False)
    assert group.texts("ä" * group.rank) == ["", "ä"]


def test_exchanges(together):
    together(exchange)


def vote(group: Group) -> None:
    every = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    got = group.vote(torch.tensor([pair[group.rank] for pair in every]).view(3, 3))
    assert got.tolist() == torch.tensor([a + b for a, b in every]).sign().view(3, 3).tolist()


def test_votes_are_the_sign_of_the_sum(together):
    together(vote)


def joined_calls(seed: int) -> tuple[LayerCall, list[LayerCall]]:
    """A weight gradient over a batch, and its parts; extreme integers are among the operands."""
    rng = np.random.default_rng(seed)
    shape = ConvShape(N=5, C=7, H=6, W=5, K=9, R=3, S=3, padding=(1, 1, 1, 1))
    x = torch.from_numpy(rng.integers(0, 256, (5, 7, 6, 5))).to(torch.uint8)
    g = torch.from_numpy(rng.integers(-(1 << 15), 1 << 15, (5, 9, 6, 5))).to(torch.int16)
    x[0, 0], g[0, 0] = 255, -(1 << 15)
    whole = LayerCall(mode="grad_weight", shape=shape, a=x, b=g, name="conv")
    cuts = (slice(0, 3), slice(3, 5))
    parts = [
        LayerCall(mode="grad_weight", shape=replace(shape, N=len(x[cut])), a=x[cut], b=g[cut], name="conv")
        for cut in cuts
    ]
    return whole, parts


def weight_gradient(context: OffloadContext, call: LayerCall) -> torch.Tensor:
    def compute(x_bits: int, g_bits: int) -> torch.Tensor:
        return context.run(call.of_high_bits(x_bits, g_bits))

    return context.weight_gradient(call.name, compute, 0.5, gy_bits=16)


def summed(group: Group, seed: int) -> None:
    whole, parts = joined_calls(seed)
    every = (None, *(Psg(mode=mode) for mode in ("predict", "sparsify", "resolve")))
    for psg, scale in product(every, SIGN_SCALES):
        alone = OffloadContext(device=Emulator(), psg=psg, magnitudes=scale)
        shared = OffloadContext(device=Emulator(), psg=psg, magnitudes=scale, group=group)
        assert torch.equal(weight_gradient(shared, parts[group.rank]), weight_gradient(alone, whole)), psg


def test_summed_gradients_are_those_of_the_joined_batch(together, rng):
    together(partial(summed, seed=int(rng.integers(1 << 32))))


def voted(group: Group, seed: int) -> None:
    _, parts = joined_calls(seed)
    alone = OffloadContext(device=Emulator(), psg=Psg())
    shared = OffloadContext(device=Emulator(), psg=Psg(), group=group, votes=True)
    want = sum(weight_gradient(alone, part) for part in parts).sign()
    assert torch.equal(weight_gradient(shared, parts[group.rank]), want)

    both = [weight_gradient(replace(alone, magnitudes="mean"), part) for part in parts]
    magnitude = sum(float(each.abs().sum() / each.count_nonzero()) for each in both)
    got = weight_gradient(replace(shared, magnitudes="mean"), parts[group.rank])
    assert torch.equal(got.sign(), want)
    assert got.abs().max() == got.abs()[want != 0].min() == pytest.approx(magnitude, rel=0.01)


def test_voted_gradients_are_the_ranks_signs(together, rng):
    together(partial(voted, seed=int(rng.integers(1 << 32))))


class OnlyOnRank(SkipPolicy):
    """Blocks that run for no sample, except on one rank."""

    def __init__(self, runs: dict[int, int], rank: int) -> None:
        super().__init__()
        self.runs, self.rank = runs, rank

    def gate(self, index, x):
        return x.new_full((len(x),), float(self.runs[index] == self.rank)) if index in self.runs else None


def skip_apart(group: Group) -> None:
    torch.manual_seed(3)
    net = digits_net()
    offload(net, OffloadContext(device=Emulator(), psg=Psg(), group=group))
    share(net, group)
    first, second, *_ = net.skippable
    net.policy = OnlyOnRank({first: 0, second: 2}, group.rank)  # the second one on no rank at all
    draws = torch.Generator().manual_seed(group.rank)
    net(torch.rand(4, 1, 8, 8, generator=draws)).square().sum().backward()
    combine_gradients(net, group)
    average_statistics(net, group)
    for name, tensor in [*net.named_buffers(), *((name, w.grad) for name, w in net.named_parameters())]:
        if tensor is not None:
            assert torch.equal(group.sum(tensor.double()), RANKS * tensor.double()), name
    assert all(weight.grad.any() for weight in net.blocks[first].branch.parameters() if weight.grad.ndim > 1)
    assert all(weight.grad is None for weight in net.blocks[second].branch.parameters())


def test_a_block_may_run_on_one_rank_alone(together):
    """Every rank enters every exchange, and ends with the same gradients and statistics."""
    together(skip_apart)


def keeps_ledgers(group: Group) -> None:
    ledger = Ledger()
    held = RankLedger(ledger=ledger, group=group)
    call = joined_calls(1)[1][group.rank]
    OffloadContext(device=Emulator(), ledger=ledger).run(call)
    spent = held.gather()
    assert len(spent) == RANKS
    (mine,) = rows_from(spent[group.rank]["rows"])
    assert mine.counters.macs == call.shape.macs
    (both,) = rows_from(row for rank in spent for row in rank["rows"])
    assert both.calls == RANKS
    assert isinstance(both.counters, Counters)
    other = RankLedger(ledger=Ledger(), group=group)
    other.restore(json.loads(json.dumps(spent)))
    assert other.take_rows() == (both,)
    assert other.gather()[group.rank]["rows"] == []
    moved = RankLedger(ledger=Ledger(), group=group, device=f"kind{group.rank}")
    moved.restore(json.loads(json.dumps(spent)))
    assert moved.devices_of_ranks() == ("host", "kind0", "kind1")


def test_every_rank_goes_on_with_its_own_ledger(together):
    together(keeps_ledgers)


def fail_on_one(group: Group) -> None:
    assert group.rank == 0, "rank 1 fails"
    group.sum(torch.ones(1))


def test_a_failure_on_one_rank_fails_the_test(together):
    with pytest.raises(AssertionError, match="rank 1 fails"):
        together(fail_on_one)
    together(exchange)


def test_a_batch_that_leaves_a_rank_without_an_image_is_refused():
    class First(Group):
        size = 2

    config = PRESETS["digits"].changed(execution="offload", method="smb-int8", batch=2)
    with pytest.raises(TrainError) as error:
        Session.start(config, OffloadContext(device=Emulator()), Ledger(), First())
    assert str(error.value) == (
        "2 ranks share a batch of 1 images at the end of an epoch; use another --batch"
    )


def begin_alike(group: Group) -> None:
    check_alike(group, "settings", "weights")
    with pytest.raises(TrainError) as error:
        check_alike(group, "settings", f"weights {group.rank}")
    assert str(error.value) == (
        "rank 1 begins with other settings, data or weights than rank 0; start all ranks alike, on the same "
        "files"
    )


def test_ranks_that_begin_with_other_settings_are_refused(together):
    together(begin_alike)


def test_settings_of_more_ranks_than_there_are_are_refused(tmp_path, monkeypatch):
    config = PRESETS["digits"].changed(steps=1, ranks=4)
    with pytest.raises(TrainError) as error:
        run_training(config, out=tmp_path)
    assert str(error.value) == (
        "the settings are those of 4 ranks, and there are 1; start with torchrun --nproc-per-node 4 -m "
        "e2train train ..., or use --set ranks=1"
    )
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(
        TrainError, match=r"^this process was started as if by torchrun, but [^\n]*RANK expected"
    ):
        run_training(config, out=tmp_path)


def test_one_process_alone_exchanges_with_nobody():
    group, values = Group(), torch.tensor([3, -1])
    assert group.sum(values) is values
    assert group.vote(values) is values
    assert group.texts("a") == ["a"]
    with pytest.raises(ValueError, match="Default process group"):
        Processes()
