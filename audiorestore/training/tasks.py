"""The two things that networks are trained for, behind one face: to restore sound, and to find impulses in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiorestore.damage.simulate import DamageRecipe
from audiorestore.models.base import Denoiser
from audiorestore.models.checkpoint import Network
from audiorestore.models.impulses import ImpulseDetector
from audiorestore.models.inference import denoise_whole
from audiorestore.training.dataset import BankLibrary, ClipPicker, Maker, PairConfig, PairMaker, SoundBank
from audiorestore.training.impulses import ImpulsePairConfig, ImpulsePairMaker, MarkLoss, mend
from audiorestore.training.losses import LossConfig, RestorationLoss
from audiorestore.training.validation import Restore


@dataclass(frozen=True)
class Task:
    """What a network is trained with.

    Args:
        maker: of training pairs.
        loss: of the network's output and what `Maker.split` returns after its input.
        restore: how files are restored with the network, for its scores.
    """

    maker: Maker
    loss: nn.Module
    restore: Restore


@dataclass(frozen=True)
class Material:
    """What pairs are made of.

    Args:
        seconds: length of a pair at the rate of the clean sound.
        seed: of this process.
    """

    clean: SoundBank
    library: BankLibrary
    recipe: DamageRecipe
    clips: PairConfig
    seconds: float
    seed: tuple[int, ...]


def task_for(
    network: Network, material: Material, *, loss: LossConfig, impulses: ImpulsePairConfig, bf16: bool
) -> Task:
    """Return what networks of this kind are trained with.

    Args:
        network: the one to score; its weights may change later.
        loss: of networks that restore sound.
        impulses: pairs for networks that find impulses.
        bf16: whether it is scored in mixed precision.
    """
    rate = material.clean.sample_rate
    n_samples = round(material.seconds * rate)
    if isinstance(network, ImpulseDetector):
        clips = ClipPicker(material.clean, material.clips)
        maker = ImpulsePairMaker(
            clips,
            material.library,
            material.recipe,
            impulses,
            n_samples=max(n_samples // network.stride, 1) * network.stride,
            seed=material.seed,
        )
        return Task(maker, MarkLoss(), _mending(network, bf16=bf16))
    pairs = PairMaker(
        material.clean, material.library, material.recipe, material.clips, n_samples=n_samples, seed=material.seed
    )
    return Task(pairs, RestorationLoss(loss, rate), _denoising(network, rate, bf16=bf16))


def _denoising(network: Denoiser, model_rate: int, *, bf16: bool) -> Restore:
    def restore(samples: Tensor, sample_rate: int) -> Tensor:
        device = next(network.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            given = samples.to(device)
            return denoise_whole(network, given, sample_rate=sample_rate, model_rate=model_rate).cpu()

    return restore


def _mending(network: ImpulseDetector, *, bf16: bool) -> Restore:
    def restore(samples: Tensor, sample_rate: int) -> Tensor:
        with torch.autocast(next(network.parameters()).device.type, dtype=torch.bfloat16, enabled=bf16):
            return mend(network, samples, sample_rate)

    return restore
