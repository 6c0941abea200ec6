"""Laws of checkpoints: what is saved is what is loaded, and nothing else is trusted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiorestore.errors import CheckpointError, ConfigError
from audiorestore.models.base import Denoiser
from audiorestore.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    network_config,
    network_mapping,
    save_checkpoint,
    shipped_checkpoints,
)
from tests.conftest import TINY, noise


def test_a_checkpoint_rebuilds_bit_equal(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    saved = save_checkpoint(replace(tiny_checkpoint, card="sha256 {sha256}", details={"a": 1}), tmp_path / "tiny")
    loaded = load_checkpoint(tmp_path / "tiny")
    assert loaded.config == TINY
    assert (loaded.sample_rate, loaded.step, loaded.name, loaded.details) == (48_000, 0, "tiny", {"a": 1})
    assert loaded.sha256 == saved.sha256
    assert loaded.sha256 in loaded.card
    samples = noise(1, 5000)
    assert torch.equal(loaded.network()(samples), tiny_checkpoint.network()(samples))


def test_configuration_survives_json() -> None:
    assert network_config(json.loads(json.dumps(network_mapping(TINY))), where="test") == TINY


def test_changed_weights_are_refused(tiny_checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tiny_checkpoint, tmp_path)
    weights = tmp_path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="expected weights with sha256"):
        load_checkpoint(tmp_path)


def test_weights_of_another_shape_are_refused(tiny_checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="expected weights that fit"):
        replace(tiny_checkpoint, config=replace(TINY, latent=9)).network()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sha256": 1}'])
def test_a_broken_description_is_refused(tiny_checkpoint: Checkpoint, tmp_path: Path, content: str) -> None:
    save_checkpoint(tiny_checkpoint, tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


def test_a_missing_model_is_named_with_those_there_are() -> None:
    with pytest.raises(CheckpointError, match="nowhere: expected a checkpoint folder or one of the shipped"):
        load_checkpoint("nowhere")


def test_an_unknown_kind_or_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind: expected one of recurrent"):
        network_config({"kind": "magic"}, where="x.yaml")
    with pytest.raises(ConfigError, match="unknown setting 'depth'"):
        network_config({"kind": "unet", "depth": 3}, where="x.yaml")


def test_every_shipped_model_loads_and_has_a_card() -> None:
    for folder in shipped_checkpoints():
        checkpoint = load_checkpoint(folder.name)
        assert checkpoint.sha256 in checkpoint.card
        network = checkpoint.loaded()
        given = noise(1, 48_000) if isinstance(network, Denoiser) else noise(1, 4, 64 * network.stride)
        assert torch.isfinite(network(given)).all()
        assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6
