"""The model card that goes with every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiorestore.models.base import Denoiser, count_parameters
from audiorestore.models.checkpoint import Checkpoint, Network
from audiorestore.models.impulses import HIGHEST_RATE


def model_card(checkpoint: Checkpoint, network: Network, folders: Sequence[Path]) -> str:
    """Return a model card in Markdown; ``{sha256}`` in it is filled in when the checkpoint is written.

    Source: Mitchell et al., "Model cards for model reporting", 2019.
    """
    recipe = checkpoint.details["recipe"]
    lines = [
        f"# {checkpoint.name}",
        "",
        f"- Network: {network.kind}, {count_parameters(network):,} parameters, {_view(checkpoint, network)}",
        f"- Weights: sha256 `{{sha256}}`, {checkpoint.step:,} steps",
        f"- Trained on {checkpoint.details['clean_hours']} hours of clean sound "
        f"({', '.join(sorted({folder.name for folder in folders}))}), "
        f"{checkpoint.details['audio_seen_hours']} hours of damaged clips seen",
        f"- Recipe: damage `{recipe['damage']}`, clips of {recipe['segment_seconds']} s, "
        f"{recipe['batch']} a step and process, seed {recipe['seed']}",
        "",
    ]
    table = checkpoint.details.get("development")
    if table:
        lines += [
            "## Development pairs",
            "",
            f"SI-SDR improvement in dB, {_means(network)}; `clean` is the SI-SDR of undamaged sound returned.",
            "",
        ]
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        lines += [f"| domain | {' | '.join(columns)} |", f"| --- {'| --- ' * len(columns)}|"]
        lines += [
            f"| {domain} | {' | '.join(str(row.get(column, '')) for column in columns)} |"
            for domain, row in table.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _view(checkpoint: Checkpoint, network: Network) -> str:
    """Say in what form a network sees sound."""
    if isinstance(network, Denoiser):
        stft = network.stft.config
        return f"STFT {stft.n_fft} / {stft.hop_length} at {checkpoint.sample_rate} Hz"
    return f"samples at a recording's own rate, {HIGHEST_RATE} Hz at most"


def _means(network: Network) -> str:
    """Say by what means sound is restored with a network."""
    return "network alone" if isinstance(network, Denoiser) else "what it finds being filled, nothing else done"
