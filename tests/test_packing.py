"""Laws of packing: rows of many recordings in one batch come out as they would alone, and a bad one costs itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from audiorestore.models.checkpoint import Checkpoint, build
from audiorestore.models.convolutional import ConvolutionalConfig
from audiorestore.models.inference import denoise_change
from audiorestore.models.recurrent import RecurrentConfig
from audiorestore.models.unet import UNetConfig
from audiorestore.restoration.packing import Batch, Packer, Row, choose, pack
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from audiorestore.spectral.stft import StftConfig
from tests.conftest import TINY, noise

CHUNKS = ChunkConfig(precision="float32")
ONE = Fraction(1)


def row(length: int, *, level: float = 0.1, seed: int = 0, ratio: Fraction = ONE) -> Row:
    return Row(noise(length, seed=seed, level=level), ratio, level)


def doubled(batch: Batch) -> Tensor:
    """A stand-in for the network."""
    return 2 * batch.samples


class Late:
    """What a device is still at work on: `cpu` waits for it."""

    def __init__(self, samples: Tensor, waited: Callable[[], None]) -> None:
        self._samples = samples
        self._waited = waited

    def float(self) -> Late:
        return self

    def cpu(self) -> Tensor:
        self._waited()
        return self._samples


def results(packer: Packer, rows: list[Row]) -> list[Tensor]:
    packer.submit(rows)
    return [item.changed.result(timeout=30) for item in rows]


@pytest.mark.parametrize("ratio", [ONE, Fraction(1, 2), Fraction(3, 2), Fraction(4, 3)])
@pytest.mark.parametrize(
    "config",
    [
        TINY,
        RecurrentConfig(StftConfig(512, 128), (4, 8), (5, 3), (4, 4), 4, 1, 4, 8, before=TINY),
        UNetConfig(StftConfig(256, 128), (4, 8), (5, 3), (4, 4), (1, 2), 4),
        ConvolutionalConfig(StftConfig(256, 128), (4, 8), (5, 3), (4, 4), 4, 8),
    ],
    ids=["recurrent", "two-stage", "unet", "convolutional"],
)
def test_a_row_among_longer_ones_comes_out_as_alone(config: object, ratio: Fraction) -> None:
    torch.manual_seed(2)
    network = build(config).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "head" in name or name.endswith("offset"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    rows = [row(length, level=0.02 * (k + 1), seed=k, ratio=ratio) for k, length in enumerate((9000, 7001, 1, 8192))]
    batch = pack(rows)
    together = denoise_change(network, batch.samples, ratio=ratio, level=batch.levels, lengths=batch.lengths)
    for packed, item in zip(together, rows, strict=True):
        alone = denoise_change(network, item.samples[None], ratio=ratio, level=item.level)[0]
        error = (packed[: len(alone)] - alone).square().sum()
        assert error < 1e-10 * alone.square().sum()  # -100 dB


def test_packed_recordings_are_those_restored_one_by_one(tiny_checkpoint: Checkpoint) -> None:
    alone = Restorer(tiny_checkpoint, device="cpu", config=CHUNKS)
    together = Restorer(tiny_checkpoint, device="cpu", config=CHUNKS, packed=True)
    files = [(noise(2, 20_000 + 500 * k, seed=k, level=0.02 * (k + 1)), 0.02 * (k + 1)) for k in range(6)]
    wanted = [alone.change([span], ratio=ONE, level=level)[0] for span, level in files]
    for order in (range(6), reversed(range(6))):
        with ThreadPoolExecutor(6) as threads:
            tasks = {k: threads.submit(together.change, [files[k][0]], ratio=ONE, level=files[k][1]) for k in order}
        for k, task in tasks.items():
            torch.testing.assert_close(task.result()[0], wanted[k], atol=1e-5, rtol=0)


def test_a_cpu_packs_nothing_so_company_changes_no_bit(tiny_checkpoint: Checkpoint) -> None:
    restorer = Restorer(tiny_checkpoint, device="cpu", config=CHUNKS)
    spans = [noise(1, 9000, seed=k) for k in range(4)]
    one_by_one = [restorer.change([span], ratio=ONE, level=0.1)[0] for span in spans]
    assert all(map(torch.equal, restorer.change(spans, ratio=ONE, level=0.1), one_by_one))


def test_a_batch_holds_rows_of_like_length_within_the_budget() -> None:
    rows = [row(1000), row(500), row(1100), row(950), row(1000, ratio=Fraction(2)), row(1000)]
    assert choose(rows, 1e9) == [rows[0], rows[2], rows[3], rows[5]]
    assert choose(rows, 3300) == [rows[0], rows[2], rows[3]]  # three rows, each as long as the longest
    assert choose([rows[0], *rows[3:]], 3000) == [rows[0], rows[3], rows[5]]
    assert choose(rows, 1) == [rows[0]]
    assert choose(rows[4:], 1e9) == [rows[4]]


def test_what_waits_while_the_device_is_busy_goes_together() -> None:
    sizes: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def launch(batch: Batch) -> Tensor:
        sizes.append(len(batch.samples))
        entered.set()
        go_on.wait(10)
        return doubled(batch)

    packer = Packer(launch, budget=1e9)
    first, others = row(100), [row(100, seed=k) for k in range(5)]
    packer.submit([first])
    entered.wait(10)
    for item in others:
        packer.submit([item])
    go_on.set()
    for item in [first, *others]:
        assert torch.equal(item.changed.result(timeout=10), 2 * item.samples)
    assert sizes == [1, 5]


def test_the_next_batch_is_launched_before_the_last_one_is_waited_for() -> None:
    events: list[str] = []

    def launch(batch: Batch) -> Late:
        events.append("launch")
        return Late(doubled(batch), lambda: events.append("wait"))

    results(Packer(launch, budget=200), [row(100, seed=k) for k in range(6)])
    assert events == ["launch", "launch", "wait", "launch", "wait", "wait"]


def test_out_of_memory_halves_the_batches_and_goes_on() -> None:
    """A stand-in device that holds three rows at a time."""
    seen: list[int] = []
    released: list[bool] = []

    def small_device(batch: Batch) -> Tensor:
        seen.append(len(batch.samples))
        if len(batch.samples) > 3:
            raise torch.OutOfMemoryError("no room")
        return doubled(batch)

    packer = Packer(small_device, budget=1600, release=lambda: released.append(True))
    rows = [row(100, seed=k) for k in range(8)] + [row(50)]
    for item, changed in zip(rows, results(packer, rows), strict=True):
        assert torch.equal(changed, 2 * item.samples)
    assert seen == [8, 4, 2, 2, 2, 2, 1]
    assert packer.budget == 200
    assert len(released) == 2
    results(packer, [row(100, seed=k) for k in range(4)])
    assert max(seen[-4:]) == 2  # it has learnt


def test_memory_that_the_batch_before_holds_is_no_reason_to_halve() -> None:
    inside = 0

    def leave() -> None:
        nonlocal inside
        inside -= 1

    def launch(batch: Batch) -> Late:
        nonlocal inside
        if inside:
            raise torch.OutOfMemoryError("no room beside another one")
        inside += 1
        return Late(doubled(batch), leave)

    packer = Packer(launch, budget=200)
    rows = [row(100, seed=k) for k in range(6)]
    for item, changed in zip(rows, results(packer, rows), strict=True):
        assert torch.equal(changed, 2 * item.samples)
    assert packer.budget == 200


def test_a_row_too_long_for_the_device_costs_only_itself() -> None:
    def small_device(batch: Batch) -> Tensor:
        if batch.samples.numel() > 150:
            raise torch.OutOfMemoryError("no room")
        return doubled(batch)

    packer = Packer(small_device, budget=1e9)
    rows = [row(100), row(500), row(100, seed=1)]
    packer.submit(rows)
    with pytest.raises(torch.OutOfMemoryError):
        rows[1].changed.result(timeout=10)
    assert torch.equal(rows[0].changed.result(timeout=10), 2 * rows[0].samples)
    assert torch.equal(rows[2].changed.result(timeout=10), 2 * rows[2].samples)


def test_an_error_in_a_batch_costs_only_the_row_to_blame() -> None:
    def launch(batch: Batch) -> Tensor:
        if (batch.samples > 5).any():
            raise RuntimeError("bad row")
        return doubled(batch)

    rows = [row(100, seed=k) for k in range(4)]
    rows[2].samples[7] = 9.0
    packer = Packer(launch, budget=1e9)
    packer.submit(rows)
    with pytest.raises(RuntimeError, match="bad row"):
        rows[2].changed.result(timeout=10)
    for k in (0, 1, 3):
        assert torch.equal(rows[k].changed.result(timeout=10), 2 * rows[k].samples)
