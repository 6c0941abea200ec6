"""Training as a flow, so that a fleet does it when nobody waits for its machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger

from audiorestore.config import find_config, load_config
from audiorestore.restoration.restorer import choose_device
from audiorestore.training.trainer import Progress, TrainingConfig, TrainingData, train
from flows.artifact import ProgressArtifact
from flows.presence import announce
from flows.remote import patiently

LIMIT = "training"
# A trainer that died gives its slot back after so long.
LEASE_SECONDS = 60.0


@flow(name="train-network", flow_run_name="{run}", persist_result=False)
def train_network(
    run: str,
    clean: list[str],
    config: str = "default",
    noise: list[str] | None = None,
    rir: list[str] | None = None,
    validation: str | None = None,
    start_from: str | None = None,
    steps: int | None = None,
    device: str = "auto",
) -> None:
    """Train a network, or go on with a run that was stopped; one at a time on all workers together.

    Args:
        run: folder of the run.
        clean, noise, rir: folders of clean sound, recorded noise, room impulse responses.
        config: shipped training recipe, or YAML file.
        validation: CSV of development pairs.
        start_from: run to branch off from, checkpoint to start with, or name of a shipped model.
        steps: in all, instead of the recipe's.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    announce()
    recipe = load_config(TrainingConfig, find_config("training", config))
    recipe = replace(recipe, steps=steps or recipe.steps)
    data = TrainingData(
        tuple(map(Path, clean)),
        tuple(map(Path, noise or ())),
        tuple(map(Path, rir or ())),
        Path(validation) if validation else None,
    )
    shown = _Shown()
    with concurrency(LIMIT, lease_duration=LEASE_SECONDS, strict=True):
        train(
            recipe,
            data,
            Path(run),
            device=str(choose_device(device)),
            report=shown,
            start_from=Path(start_from) if start_from else None,
        )
    shown.end()


class _Shown:
    """Shows how far a training is, and at its end the measures on the way."""

    def __init__(self) -> None:
        self._artifact = ProgressArtifact("training-progress", get_run_logger().warning)
        self._scores: list[dict[str, Any]] = []

    def __call__(self, progress: Progress) -> None:
        if progress.scores:
            self._scores.append({"step": progress.step, "loss": progress.loss, **progress.scores.summary()})
        words = f"step {progress.step} of {progress.steps}, loss {progress.loss:.4f}"
        words += f", {progress.seconds_left / 3600:.1f} hours left"
        self._artifact.show(progress.step / progress.steps, words)

    def end(self) -> None:
        """Show the end."""
        self._artifact.show(1.0, "ended")
        if self._scores:
            patiently(lambda: create_table_artifact(table=self._scores, key="training-scores"))
