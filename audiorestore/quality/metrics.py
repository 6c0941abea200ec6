"""How far an estimate is from its reference: measures that need the clean recording.

Every measure takes ``reference=`` and ``estimate=`` by keyword, because most of them are not symmetric,
as tensors [..., T] of one shape, and gives one figure per channel, [...], in float64. All of them refuse
what they cannot judge with a ValueError that says what was wrong.

The transforms here are part of the measures' definitions, so they are fixed in this file and do not
follow the STFT of any network.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from math import gcd
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from audiorestore.errors import DependencyError

SEGMENT_SECONDS = 0.03
SEGMENT_RANGE_DB = (-10.0, 35.0)
LSD_N_FFT = 2048
LSD_HOP_LENGTH = 512
LSD_FLOOR_DB = -80.0
# (n_fft, hop_length, win_length): table 1 of the Parallel WaveGAN paper.
STFT_RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
# Magnitudes under this count as equal, as in the authors' published code.
STFT_MAGNITUDE_FLOOR = 1e-7
PESQ_SAMPLE_RATE = 16_000
# P.862 aligns whole utterances; its reference code asks for a quarter of a second at least.
PESQ_MIN_SECONDS = 0.25

FloatArray = NDArray[np.float64]


def si_sdr(*, reference: Tensor, estimate: Tensor) -> Tensor:
    """Return the scale-invariant signal-to-distortion ratio of each channel, in dB.

    Both signals are made zero-mean first; a perfect estimate gives +inf, a silent one -inf.
    Source: Le Roux et al., "SDR - half-baked or well done?", ICASSP 2019, eq. 2 and 3.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.

    Raises:
        ValueError: shapes differ, a sample is not finite, or a reference channel is silent or constant.
    """
    reference, estimate = _validated(reference, estimate)
    peak = reference.abs().amax(-1)
    reference = reference - reference.mean(-1, keepdim=True)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    energy = _energy(reference)
    # The mean of a constant is not exact in floating point, so "nothing left" is a little above zero.
    _refuse_silent(reference.abs().amax(-1) > 1e-12 * peak)
    scale = (reference * estimate).sum(-1) / energy
    distortion = _energy(estimate - scale.unsqueeze(-1) * reference)
    return _ratio_db(scale.square() * energy, distortion)


def sdr(*, reference: Tensor, estimate: Tensor) -> Tensor:
    """Return the plain signal-to-distortion ratio of each channel, in dB.

    This is the energy of the reference over the energy of ``estimate - reference``, often called SNR: no
    scaling, no projection, no permitted filter (it is not BSS Eval's SDR), so a wrong level or a delay of
    one sample counts as distortion. A perfect estimate gives +inf.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.

    Raises:
        ValueError: shapes differ, a sample is not finite, or a reference channel is silent.
    """
    reference, estimate = _validated(reference, estimate)
    _refuse_silent(_energy(reference) > 0)
    return _ratio_db(_energy(reference), _energy(estimate - reference))


def segmental_snr(*, reference: Tensor, estimate: Tensor, sample_rate: int) -> Tensor:
    """Return the mean over frames of the signal-to-noise ratio, each frame clamped to -10..35 dB.

    Frames are 30 ms under a Hann window, three quarters overlapped; frames in which the reference is
    digital silence have no ratio and are left out. A perfect estimate gives 35.
    Source: Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement
    algorithms", ICSLP 1998; frame length and overlap as in Loizou, "Speech Enhancement", 2nd ed., ch. 11.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.
        sample_rate: Hz.

    Raises:
        ValueError: shapes differ, a sample is not finite, the sample rate is not positive, or a reference
            channel is silent.
    """
    reference, estimate = _validated(reference, estimate)
    _refuse_rate(sample_rate)
    length = min(round(SEGMENT_SECONDS * sample_rate), reference.shape[-1])
    hop = max(length // 4, 1)
    # Not periodic and without its zero ends, so that a frame of any length has weight.
    window = torch.hann_window(length + 2, periodic=False, dtype=torch.float64, device=reference.device)[1:-1]
    signal = (reference.unfold(-1, length, hop) * window).square().sum(-1)
    noise = ((estimate - reference).unfold(-1, length, hop) * window).square().sum(-1)
    voiced = signal > 0
    _refuse_silent(voiced.any(-1))
    ratios = _ratio_db(signal, noise).clamp(*SEGMENT_RANGE_DB)
    return torch.where(voiced, ratios, 0.0).sum(-1) / voiced.sum(-1)


def log_spectral_distance(*, reference: Tensor, estimate: Tensor) -> Tensor:
    """Return the log-spectral distance of each channel, in dB: 0 is perfect, and silence costs as noise does.

    Per frame, the root mean square over bins of the difference of the two spectra in dB; then the mean
    over frames. STFT: Hann window and n_fft of 2048 samples, hop 512. Both magnitudes are raised to a floor
    80 dB under the loudest bin of the reference: without it the figure would be ruled by the codec and
    converter noise in parts nobody hears.
    Source: Gray and Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.

    Raises:
        ValueError: shapes differ, a sample is not finite, or a reference channel is silent.
    """
    reference, estimate = _validated(reference, estimate)
    _refuse_silent(_energy(reference) > 0)
    reference_mag = _magnitude(reference, LSD_N_FFT, LSD_HOP_LENGTH, LSD_N_FFT)
    estimate_mag = _magnitude(estimate, LSD_N_FFT, LSD_HOP_LENGTH, LSD_N_FFT)
    floor = reference_mag.amax((-2, -1), keepdim=True) * 10 ** (LSD_FLOOR_DB / 20)
    difference_db = 20 * (reference_mag.maximum(floor).log10() - estimate_mag.maximum(floor).log10())
    return difference_db.square().mean(-2).sqrt().mean(-1)


def multi_resolution_stft_distance(*, reference: Tensor, estimate: Tensor) -> Tensor:
    """Return the mean over three STFT resolutions of spectral convergence plus L1 of log magnitudes.

    No unit; 0 is perfect. Logarithms are natural.
    Source: Yamamoto, Song and Kim, "Parallel WaveGAN", ICASSP 2020, eq. 3 to 6 and table 1.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.

    Raises:
        ValueError: shapes differ, a sample is not finite, or a reference channel is silent.
    """
    reference, estimate = _validated(reference, estimate)
    _refuse_silent(_energy(reference) > 0)
    distances = [
        _stft_distance(_magnitude(reference, *resolution), _magnitude(estimate, *resolution))
        for resolution in STFT_RESOLUTIONS
    ]
    return torch.stack(distances).mean(0)


def stoi(*, reference: Tensor, estimate: Tensor, sample_rate: int) -> Tensor:
    """Return the short-time objective intelligibility of each channel of speech, about 0..1.

    Source: Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech", IEEE Trans. ASLP 19(7), 2011, as in the package `pystoi`, which works at 10 kHz.

    Args:
        reference: clean speech, [..., T].
        estimate: restored speech, same shape and sample rate.
        sample_rate: Hz.

    Raises:
        DependencyError: `pystoi` is not installed.
        ValueError: as `sdr`, or less than 0.4 seconds of the reference are not silent.
    """
    return _intelligibility(reference, estimate, sample_rate, extended=False)


def estoi(*, reference: Tensor, estimate: Tensor, sample_rate: int) -> Tensor:
    """Return the extended short-time objective intelligibility of each channel of speech, about 0..1.

    Source: Jensen and Taal, "An algorithm for predicting the intelligibility of speech masked by modulated
    noise maskers", IEEE/ACM Trans. ASLP 24(11), 2016, as in the package `pystoi`, which works at 10 kHz.

    Args:
        reference: clean speech, [..., T].
        estimate: restored speech, same shape and sample rate.
        sample_rate: Hz.

    Raises:
        DependencyError: `pystoi` is not installed.
        ValueError: as `sdr`, or less than 0.4 seconds of the reference are not silent.
    """
    return _intelligibility(reference, estimate, sample_rate, extended=True)


def pesq_wb(*, reference: Tensor, estimate: Tensor, sample_rate: int) -> Tensor:
    """Return the wide-band PESQ score (MOS-LQO) of each channel of speech, 1.04 to 4.64.

    Signals are brought to 16 kHz first, so nothing above 8 kHz is judged.
    Source: ITU-T P.862.2 (2007), as in the package `pesq`.

    Args:
        reference: clean speech, [..., T].
        estimate: restored speech, same shape and sample rate.
        sample_rate: Hz.

    Raises:
        DependencyError: `pesq` is not installed.
        ValueError: as `sdr`, or the signal is shorter than 0.25 seconds or holds no utterance.
    """
    pesq = _optional("pesq")

    def score(clean: FloatArray, restored: FloatArray) -> float:
        try:
            return float(pesq.pesq(PESQ_SAMPLE_RATE, clean, restored, "wb"))
        except pesq.PesqError as error:
            raise ValueError(f"estimate: expected speech that PESQ can score, found {_one_line(error)}") from error

    reference, estimate = _validated(reference, estimate)
    _refuse_rate(sample_rate)
    _refuse_silent(_energy(reference) > 0)
    if reference.shape[-1] < PESQ_MIN_SECONDS * sample_rate:
        raise ValueError(
            f"reference: expected at least {PESQ_MIN_SECONDS} seconds for PESQ, "
            f"found {reference.shape[-1] / sample_rate:.3f}"
        )
    return _per_channel(
        score,
        _resampled(reference, sample_rate, PESQ_SAMPLE_RATE),
        _resampled(estimate, sample_rate, PESQ_SAMPLE_RATE),
    )


def summary(
    *, reference: Tensor, estimate: Tensor, sample_rate: int, domain: str | None = None
) -> dict[str, float | None]:
    """Return every measure, averaged over channels; None where a measure does not apply.

    The speech measures (ESTOI, STOI, PESQ) are None for a ``domain`` other than speech, without the extra
    ``audiorestore[quality]``, and for sound in which they find too little speech.

    Args:
        reference: clean signal, [..., T].
        estimate: restored signal, same shape and sample rate.
        sample_rate: Hz.
        domain: ``speech``, ``music`` or any other word; None means unknown, and all measures are tried.

    Raises:
        ValueError: shapes differ, a sample is not finite, or a reference channel is silent.
    """
    measures: dict[str, float | None] = {
        "si_sdr_db": _mean(si_sdr(reference=reference, estimate=estimate)),
        "sdr_db": _mean(sdr(reference=reference, estimate=estimate)),
        "segmental_snr_db": _mean(segmental_snr(reference=reference, estimate=estimate, sample_rate=sample_rate)),
        "log_spectral_distance_db": _mean(log_spectral_distance(reference=reference, estimate=estimate)),
        "multi_resolution_stft": _mean(multi_resolution_stft_distance(reference=reference, estimate=estimate)),
    }
    for name, measure in (("stoi", stoi), ("estoi", estoi), ("pesq_wb", pesq_wb)):
        measures[name] = None
        if domain in (None, "speech"):
            try:
                measures[name] = _mean(measure(reference=reference, estimate=estimate, sample_rate=sample_rate))
            except (DependencyError, ValueError):
                continue
    return measures


def _validated(reference: Tensor, estimate: Tensor) -> tuple[Tensor, Tensor]:
    """Return both signals in float64, after checking that they can be compared."""
    for name, signal in (("reference", reference), ("estimate", estimate)):
        if signal.ndim == 0 or signal.numel() == 0:
            raise ValueError(f"{name}: expected samples [..., T], found shape {tuple(signal.shape)}")
        if not signal.is_floating_point():
            raise ValueError(f"{name}: expected floating-point samples, found {signal.dtype}")
        if not signal.isfinite().all():
            raise ValueError(f"{name}: expected finite samples, found NaN or infinity")
    if reference.shape != estimate.shape:
        raise ValueError(
            f"estimate: expected the reference's shape {tuple(reference.shape)}, found {tuple(estimate.shape)}"
        )
    return reference.double(), estimate.double()


def _refuse_silent(sounding: Tensor) -> None:
    if not sounding.all():
        raise ValueError("reference: expected sound in every channel, found a silent one")


def _refuse_rate(sample_rate: int) -> None:
    if sample_rate <= 0:
        raise ValueError(f"sample_rate: expected a positive rate in Hz, found {sample_rate}")


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(-1)


def _ratio_db(signal: Tensor, noise: Tensor) -> Tensor:
    """Return 10 log10 of a ratio of energies; no noise is +inf, and no signal is -inf even without noise."""
    return torch.where(signal > 0, 10 * (signal / noise).log10(), -torch.inf)


def _magnitude(signal: Tensor, n_fft: int, hop_length: int, win_length: int) -> Tensor:
    """Return STFT magnitudes [..., n_bins, n_frames]; the ends are zero-padded, so that any length will do."""
    window = torch.hann_window(win_length, dtype=signal.dtype, device=signal.device)
    spec = torch.stft(
        signal.reshape(-1, signal.shape[-1]),
        n_fft,
        hop_length,
        win_length,
        window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spec.abs().reshape(*signal.shape[:-1], *spec.shape[-2:])


def _stft_distance(reference_mag: Tensor, estimate_mag: Tensor) -> Tensor:
    convergence = _frobenius(reference_mag - estimate_mag) / _frobenius(reference_mag)
    reference_log = reference_mag.clamp(min=STFT_MAGNITUDE_FLOOR).log()
    estimate_log = estimate_mag.clamp(min=STFT_MAGNITUDE_FLOOR).log()
    return convergence + (reference_log - estimate_log).abs().mean((-2, -1))


def _frobenius(matrix: Tensor) -> Tensor:
    return matrix.square().sum((-2, -1)).sqrt()


def _intelligibility(reference: Tensor, estimate: Tensor, sample_rate: int, *, extended: bool) -> Tensor:
    pystoi = _optional("pystoi")

    def score(clean: FloatArray, restored: FloatArray) -> float:
        # pystoi answers 1e-5 with a warning where it finds too little speech: that is no score.
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(pystoi.stoi(clean, restored, sample_rate, extended=extended))
            except RuntimeWarning as warning:
                raise ValueError(f"reference: expected speech that STOI can score, found: {warning}") from warning

    reference, estimate = _validated(reference, estimate)
    _refuse_rate(sample_rate)
    _refuse_silent(_energy(reference) > 0)
    return _per_channel(score, reference, estimate)


def _per_channel(score: Callable[[FloatArray, FloatArray], float], reference: Tensor, estimate: Tensor) -> Tensor:
    """Score each channel by a function of arrays [T]; returns [...]."""
    pairs = zip(
        reference.reshape(-1, reference.shape[-1]).cpu().numpy(),
        estimate.reshape(-1, estimate.shape[-1]).cpu().numpy(),
        strict=True,
    )
    scores = torch.tensor([score(clean, restored) for clean, restored in pairs], dtype=torch.float64)
    return scores.reshape(reference.shape[:-1]).to(reference.device)


def _resampled(signal: Tensor, sample_rate: int, target_rate: int) -> Tensor:
    if sample_rate == target_rate:
        return signal
    common = gcd(sample_rate, target_rate)
    samples = resample_poly(signal.cpu().numpy(), target_rate // common, sample_rate // common, axis=-1)
    return torch.from_numpy(np.ascontiguousarray(samples)).to(signal.device)


def _optional(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise DependencyError(
            f"{package}: expected this package for the measure, found none; install audiorestore[quality]"
        ) from error


def _one_line(error: Exception) -> str:
    """Return an error's text, which `pesq` keeps as bytes."""
    words = " ".join(part.decode() if isinstance(part, bytes) else str(part) for part in error.args)
    return words or type(error).__name__


def _mean(values: Tensor) -> float:
    return float(values.mean())
