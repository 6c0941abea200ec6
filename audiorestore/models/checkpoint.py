"""Checkpoints: a folder with weights, configuration and model card, from which a network is rebuilt with no guesses.

NAME/
  model.safetensors   weights; reading them executes nothing
  config.json         kind of network, its shape, sample rate, step, sha256 of the weights
  CARD.md             what it was trained on, how, how well it does and where it fails
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from audiorestore.config import from_mapping, to_mapping
from audiorestore.errors import CheckpointError, ConfigError
from audiorestore.models.base import Denoiser
from audiorestore.models.convolutional import ConvolutionalConfig, ConvolutionalDenoiser
from audiorestore.models.impulses import ImpulseDetector, ImpulsesConfig
from audiorestore.models.recurrent import RecurrentConfig, RecurrentDenoiser
from audiorestore.models.unet import UNetConfig, UNetDenoiser

DEFAULT_MODEL = "recurrent"

NetworkConfig = RecurrentConfig | UNetConfig | ConvolutionalConfig | ImpulsesConfig
Network = Denoiser | ImpulseDetector

_KINDS: Mapping[str, tuple[type[Any], type[Any]]] = {
    "recurrent": (RecurrentConfig, RecurrentDenoiser),
    "unet": (UNetConfig, UNetDenoiser),
    "convolutional": (ConvolutionalConfig, ConvolutionalDenoiser),
    "impulses": (ImpulsesConfig, ImpulseDetector),
}


def build(config: NetworkConfig) -> Network:
    """Return an untrained network of the configured shape."""
    for shape, network in _KINDS.values():
        if isinstance(config, shape):
            built: Network = network(config)
            return built
    raise TypeError(f"expected a network configuration, found {type(config).__name__}")


def network_config(values: Mapping[str, Any], *, where: str) -> NetworkConfig:
    """Return the configuration in a mapping whose key ``kind`` names the network.

    Raises:
        ConfigError: unknown kind, or settings that this kind does not know.
    """
    kind = values.get("kind")
    if kind not in _KINDS:
        raise ConfigError(f"{where}: kind: expected one of {', '.join(_KINDS)}, found {kind!r}")
    shape: NetworkConfig = from_mapping(
        _KINDS[str(kind)][0], {key: value for key, value in values.items() if key != "kind"}, where=where
    )
    return shape


def network_mapping(config: NetworkConfig) -> dict[str, Any]:
    """Return the inverse of `network_config`."""
    kind = next(name for name, (shape, _) in _KINDS.items() if isinstance(config, shape))
    return {"kind": kind, **to_mapping(config)}


@dataclass(frozen=True)
class Checkpoint:
    """A trained network as a value.

    Args:
        config: shape of the network.
        weights: its parameters by name.
        sample_rate: rate it was trained at, Hz.
        step: optimiser steps behind it.
        name: folder name; `sha256` is of the weights file.
    """

    config: NetworkConfig
    weights: Mapping[str, Tensor]
    sample_rate: int
    step: int
    name: str = "unnamed"
    sha256: str = ""
    card: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def network(self) -> Denoiser:
        """Return the network with these weights, ready for use (evaluation mode).

        Raises:
            CheckpointError: the weights do not fit, or it is no network that restores sound.
        """
        network = self.loaded()
        if not isinstance(network, Denoiser):
            raise CheckpointError(f"{self.name}: expected a network that restores sound, found one of {network.kind}")
        return network

    def detector(self) -> ImpulseDetector:
        """Return the detector of clicks and crackle with these weights, ready for use (evaluation mode).

        Raises:
            CheckpointError: the weights do not fit, or it is no such detector.
        """
        network = self.loaded()
        if not isinstance(network, ImpulseDetector):
            raise CheckpointError(f"{self.name}: expected a detector of impulses, found a network of {network.kind}")
        return network.fold()

    def loaded(self) -> Network:
        """Return the network with these weights, of whatever kind, ready for use (evaluation mode).

        Raises:
            CheckpointError: the weights do not fit.
        """
        network = build(self.config)
        try:
            network.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            wanted, given = network.state_dict(), self.weights
            odd = sorted(
                name for name in {*wanted, *given} if name not in wanted or name not in given
                or wanted[name].shape != given[name].shape
            )  # fmt: skip
            raise CheckpointError(
                f"{self.name}: expected weights that fit config.json, found {len(odd)} that do not, such as {odd[0]}"
            ) from error
        return network.eval()


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Write a checkpoint folder (files replaced one by one, weights first) and return it with its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()})
    sha256 = hashlib.sha256(weights).hexdigest()
    described = {
        "format": 1,
        "network": network_mapping(checkpoint.config),
        "sample_rate": checkpoint.sample_rate,
        "step": checkpoint.step,
        "sha256": sha256,
        "details": dict(checkpoint.details),
    }
    _replace(folder / "model.safetensors", weights)
    _replace(folder / "config.json", (json.dumps(described, indent=2) + "\n").encode())
    _replace(folder / "CARD.md", checkpoint.card.replace("{sha256}", sha256).encode())
    return load_checkpoint(folder)


def load_checkpoint(name: str | Path = DEFAULT_MODEL) -> Checkpoint:
    """Load a checkpoint: the name of one that ships with the package, or a folder.

    Raises:
        CheckpointError: no such checkpoint, unreadable files, or weights whose sha256 is not the recorded one.
    """
    folder = _folder(name)
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = (folder / "model.safetensors").read_bytes()
        card = folder / "CARD.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: expected config.json and model.safetensors, found {' '.join(str(error).split())}"
        ) from error
    found = hashlib.sha256(weights).hexdigest()
    if not isinstance(described, dict) or described.get("sha256") != found:
        expected = described.get("sha256") if isinstance(described, dict) else "a mapping"
        raise CheckpointError(f"{folder}: expected weights with sha256 {expected}, found {found}")
    try:
        return Checkpoint(
            config=network_config(described["network"], where=str(folder / "config.json")),
            weights=load(weights),
            sample_rate=int(described["sample_rate"]),
            step=int(described["step"]),
            name=folder.name,
            sha256=found,
            card=text,
            details=described.get("details", {}),
        )
    except (KeyError, ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: expected a checkpoint of format 1, found {error}") from error


def shipped_checkpoints() -> Iterator[Path]:
    """Yield the folders of the checkpoints inside the package, sorted by name."""
    yield from sorted(path.parent for path in _weights_folder().glob("*/config.json"))


def _weights_folder() -> Path:
    return Path(__file__).resolve().parent.parent / "weights"


def _folder(name: str | Path) -> Path:
    for folder in (Path(name), _weights_folder() / str(name)):
        if (folder / "config.json").is_file():
            return folder
    shipped = ", ".join(path.name for path in shipped_checkpoints())
    raise CheckpointError(
        f"{name}: expected a checkpoint folder or one of the shipped models ({shipped}), found neither"
    )


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
