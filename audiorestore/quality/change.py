"""What was changed: the programme, or only what lay over it.

Two versions alone do not say what was noise. Three things tell programme from it: programme stands out of the floor
of its band, a click is over in a few milliseconds, and noise that was taken away is not like what was left. The
last is the idea here: of before = programme + noise and after = programme, the difference (the noise) is not correlated
with what was left, whereas of after = g programme the difference, (1 - g) programme, is a multiple of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audiorestore.quality.framing import NO_SOUND, FloatArray, decibels
from audiorestore.quality.noise import ComplexArray, FrameSpectra, band_edges

# Blocks of about 85 ms: long enough for unlike sounds to come out as uncorrelated, short against a syllable.
BLOCK_FRAMES = 4
# Floors and loud blocks are found anew every five minutes or more; so memory does not grow, and a quiet side of a
# tape is not judged by a loud one.
STRETCH_SECONDS = 300.0

LOUD_FRACTION = 0.2
FLOOR_FRACTION = 0.1
PROGRAMME_OVER_FLOOR_DB = 10.0
# Bands this far under the strongest one of their block are covered by it.
PROGRAMME_RANGE_DB = 30.0
# Presence and brilliance: what listeners miss first.
HIGH_BAND_HZ = (5_000.0, 16_000.0)
# A band that fell by more is lost, whatever what is left of it looks like.
LARGEST_CHANGE_DB = 30.0

# The difference within a click's millisecond stands this far over the sixth highest of its frame. A voice of 140 Hz has
# six pulses in a frame of 43 ms, so its pulses are no clicks.
IMPULSE_RATIO = 3.5
IMPULSE_RANK = 6
IMPULSE_MIN = 1e-4
SLICES = 32
# Crackle has too many clicks in a frame for that. Then the difference is this far from a normal distribution (kurtosis
# of its steps): crackle has 60 and more, voices up to 17, noise 3.
CRACKLE_KURTOSIS = 30.0
# An attack that was turned down, and no click: what is left of it is at least this much of what was taken away.
ATTACK_LEFT = 0.5
# Three or more samples alike within this share of a frame's range from its highest or lowest one are clipped: what they
# were is not known.
CLIPPED_RANGE = 0.03

# In a pause at least this share of the bands lies near its floor.
PAUSE_SHARE = 0.5
PAUSE_OVER_FLOOR_DB = 6.0
PUMPING_BLOCKS = 8
# What is left in a pause is background if it is as like the noise removed as this (squared correlation). What is
# not is programme that the noise had covered.
BACKGROUND_COHERENCE = 0.8
# Background under this level is heard by nobody, however it moves.
INAUDIBLE_DBFS = -75.0
# A change this small leaves nothing to be like.
_UNCHANGED = 1e-6
_TINY = 1e-30
# The mean of noise power over its geometric mean: the exponential of Euler's constant.
_MEAN_OVER_GEOMETRIC = 1.781


@dataclass(frozen=True)
class Change:
    """Change of the programme and of the background, dB; None where there is no programme, or no pause.

    Attributes:
        deviation_db: RMS over the bands of the loudest fifth that carry programme.
        worst_deviation_db: the same in the one block that changed most. worst_seconds: where that block begins.
        pumping_db: by how much more the background moves in the pauses than before (spread from its 10th to its 90th
            percentile); 0 if no background is left.
        high_loss_db: by how much the programme fell between 5 and 16 kHz, in the blocks where that is loudest.
        pauses: share of the time in which there is no programme.
    """

    deviation_db: float | None = None
    worst_deviation_db: float | None = None
    worst_seconds: float | None = None
    pumping_db: float | None = None
    high_loss_db: float | None = None
    pauses: float = 0.0


class ChangeMeter:
    """Tell a change of programme from noise that was removed, frame by frame, in bounded memory.

    In each band of a block (a third of an octave or more, 85 ms), d = before - after and y = after give the change
    of programme as 20 log10(1 + <d, y> / <y, y>): 0 for uncorrelated noise removed, the gain for a gain. Programme is
    what stands 10 dB over the floor of its band, which is the 10th percentile over time of the geometric mean over the
    band's bins (so the gaps between the partials of a held chord count).
    Clicks removed (the difference concentrated in a millisecond or two), crackle (in many of them) and clipped samples
    rebuilt count as unchanged.

    In pauses, where most bands lie near their floors, what is left is background as far as it is correlated with
    the noise removed, or nothing was removed.
    """

    def __init__(self, spectra: FrameSpectra, sample_rate: int) -> None:
        self._spectra = spectra
        n_bins = spectra.length // 2 + 1
        self._edges = band_edges(n_bins)
        self._widths = np.diff(self._edges, append=n_bins)
        self._block_seconds = BLOCK_FRAMES * spectra.length / 2 / sample_rate
        self._stretch = max(round(STRETCH_SECONDS / self._block_seconds), 1)
        self._frames = np.zeros((5, 0, len(self._edges)))
        self._blocks: list[FloatArray] = []
        self._n_blocks = 0
        low, high = (limit * spectra.length / sample_rate for limit in HIGH_BAND_HZ)
        self._high = (self._edges >= low) & (self._edges < min(high, 0.9 * n_bins))
        self._sums = _Sums()

    def add(self, frames: Sequence[FloatArray], transformed: Sequence[ComplexArray], kept_power: FloatArray) -> None:
        """Take in the same frames of both versions, [C, n_frames, length] each, and what `FrameSpectra` makes of them.

        Args:
            transformed: their spectra. kept_power: power of those after, mean over channels, [n_frames, n_bins].
        """
        (before, after), (source, kept) = frames, transformed
        spectra = self._spectra
        removed = source - kept
        changed = before - after
        repaired, where = _without_repairs(changed, before, after)
        removed[where] = spectra.transform(repaired)
        source = kept + removed
        power = spectra.power(source).mean(axis=0)
        level = np.add.reduceat(np.log(np.maximum(power, 1e-20)), self._edges, axis=1) / self._widths
        cross = ((kept.real * removed.real + kept.imag * removed.imag) * spectra.scale).mean(axis=0)
        parts = [power, kept_power, spectra.power(removed).mean(axis=0), cross]
        bands = [np.add.reduceat(part, self._edges, axis=1) for part in parts]
        floor = np.exp(level) * (_MEAN_OVER_GEOMETRIC * self._widths)
        self._frames = np.concatenate([self._frames, np.stack([*bands, floor])], axis=1)
        whole = self._frames.shape[1] // BLOCK_FRAMES * BLOCK_FRAMES
        if whole:
            blocks = self._frames[:, :whole].reshape(5, -1, BLOCK_FRAMES, len(self._edges)).mean(axis=2)
            self._blocks.append(blocks.astype(np.float32))
            self._n_blocks += blocks.shape[1]
            self._frames = self._frames[:, whole:]
        while self._n_blocks >= 2 * self._stretch:
            held = np.concatenate(self._blocks, axis=1)
            self._sums = self._sums.with_stretch(held[:, : self._stretch], self._block_seconds, self._high)
            self._blocks = [held[:, self._stretch :]]
            self._n_blocks -= self._stretch

    def change(self) -> Change:
        """Return the figures over all that was taken in."""
        if not self._n_blocks:
            return self._sums.change()
        held = np.concatenate(self._blocks, axis=1)
        return self._sums.with_stretch(held, self._block_seconds, self._high).change()


class _Sums(NamedTuple):
    """What is kept of the stretches that are done with."""

    n_blocks: int = 0
    squares: float = 0.0
    n_bands: int = 0
    worst_db: float = -1.0
    worst_seconds: float = 0.0
    n_pauses: int = 0
    pumping_db: float | None = None
    high_before: float = 0.0
    high_after: float = 0.0
    high_cross: float = 0.0

    def with_stretch(self, blocks: FloatArray, block_seconds: float, high: NDArray[np.bool_]) -> _Sums:
        """Add the blocks of a stretch, [5, n_blocks, bands]: before, after, removed, cross, floor."""
        stretch = _Stretch(*blocks.astype(np.float64))
        sounding = stretch.before.sum(axis=1) > NO_SOUND
        here = self._replace(n_blocks=self.n_blocks + len(sounding))
        if not sounding.any():
            return here
        floor = stretch.floor_of(sounding)
        found = _deviation(stretch, floor, sounding)
        if found is not None:
            squares, n_bands, worst_db, worst = found
            here = here._replace(squares=self.squares + squares, n_bands=self.n_bands + n_bands)
            if worst_db > self.worst_db:
                here = here._replace(worst_db=worst_db, worst_seconds=(self.n_blocks + worst) * block_seconds)
        parts = _Stretch(*(part[:, high] for part in stretch))
        carries = _carries(parts, floor[high], sounding)
        before, after, cross = (float(part[carries].sum()) for part in (parts.before, parts.after, parts.cross))
        here = here._replace(
            high_before=self.high_before + before,
            high_after=self.high_after + after,
            high_cross=self.high_cross + cross,
        )
        n_pauses, pumping = _pumping(stretch, floor, sounding)
        pumpings = [value for value in (self.pumping_db, pumping) if value is not None]
        return here._replace(n_pauses=self.n_pauses + n_pauses, pumping_db=max(pumpings, default=None))

    def change(self) -> Change:
        pauses = self.n_pauses / self.n_blocks if self.n_blocks else 0.0
        high = None
        if self.high_before:
            parts = (np.array([part]) for part in (self.high_before, self.high_after, self.high_cross))
            high = float(_change_db(*parts)[0])
        if not self.n_bands:
            return Change(pumping_db=self.pumping_db, high_loss_db=high, pauses=pauses)
        deviation = float(np.sqrt(self.squares / self.n_bands))
        return Change(deviation, self.worst_db, self.worst_seconds, self.pumping_db, high, pauses)


class _Stretch(NamedTuple):
    """Powers of blocks, [n_blocks, bands]."""

    before: FloatArray
    after: FloatArray
    removed: FloatArray
    cross: FloatArray
    floor: FloatArray

    def floor_of(self, sounding: NDArray[np.bool_]) -> FloatArray:
        """Return the noise floor, [bands]."""
        return np.maximum(np.quantile(self.floor[sounding], FLOOR_FRACTION, axis=0), _TINY)


def _deviation(
    stretch: _Stretch, floor: FloatArray, sounding: NDArray[np.bool_]
) -> tuple[float, int, float, int] | None:
    """Return the sum of squares and the number of programme's bands, and the worst block with its deviation."""
    carries = _carries(stretch, floor, sounding)
    n_bands = carries.sum(axis=1)
    if not n_bands.any():
        return None
    change = _change_db(stretch.before, stretch.after, stretch.cross)
    squares = (np.square(change) * carries).sum(axis=1)
    means = squares / np.maximum(n_bands, 1)
    worst = int(means.argmax())
    return float(squares.sum()), int(n_bands.sum()), float(np.sqrt(means[worst])), worst


def _carries(stretch: _Stretch, floor: FloatArray, sounding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which bands of the loudest fifth of the blocks carry programme, [n_blocks, bands]."""
    before = stretch.before
    if not before.shape[1]:
        return np.zeros(before.shape, dtype=np.bool_)
    total = before.sum(axis=1)
    loud = sounding & (total >= np.quantile(total[sounding], 1 - LOUD_FRACTION))
    carries = (before >= floor * _power(PROGRAMME_OVER_FLOOR_DB)) & loud[:, None]
    return np.asarray(carries & (before >= before.max(axis=1, keepdims=True) * _power(-PROGRAMME_RANGE_DB)))


def _change_db(before: FloatArray, after: FloatArray, cross: FloatArray) -> FloatArray:
    """Return by how much the programme fell, from the powers before and after, and that of the difference in after."""
    share = 1 + cross / np.maximum(after, _TINY)
    change = 20 * np.log10(np.clip(share, _power(-LARGEST_CHANGE_DB / 2), _power(LARGEST_CHANGE_DB / 2)))
    return np.where(after < before * _power(-LARGEST_CHANGE_DB), LARGEST_CHANGE_DB, change)


def _pumping(stretch: _Stretch, floor: FloatArray, sounding: NDArray[np.bool_]) -> tuple[int, float | None]:
    """Return the number of pauses, and the growth of the spread of the background's level in them."""
    near = stretch.before < floor * _power(PAUSE_OVER_FLOOR_DB)
    pause = sounding & (near.mean(axis=1) > PAUSE_SHARE)
    if pause.sum() < PUMPING_BLOCKS:
        return int(pause.sum()), None
    # Every band weighs alike, and their sum stands for the whole spectrum.
    weights = near[pause] * (floor.sum() / near[pause].sum(axis=1, keepdims=True)) / floor
    before, after, removed, cross = ((part[pause] * weights).sum(axis=1) for part in stretch[:4])
    likeness = np.square(np.maximum(cross, 0)) / np.maximum(removed * after, _TINY)
    levels = [np.maximum(decibels(power), INAUDIBLE_DBFS) for power in (before, after)]
    background = (removed < _UNCHANGED * before) | (likeness >= BACKGROUND_COHERENCE) | (levels[1] <= INAUDIBLE_DBFS)
    if background.sum() < PUMPING_BLOCKS:
        return int(pause.sum()), 0.0
    spreads = [float(np.subtract(*np.percentile(level[background], (90, 10)))) for level in levels]
    return int(pause.sum()), max(spreads[1] - spreads[0], 0.0)


def _without_repairs(
    changed: FloatArray, before: FloatArray, after: FloatArray
) -> tuple[FloatArray, tuple[NDArray[np.int64], ...]]:
    """Return the frames in which a click or clipped samples were replaced, [n, length], with zeros there; and which."""
    shape = (*changed.shape[:2], SLICES, changed.shape[2] // SLICES)
    # The difference of neighbours: clicks are bright.
    steps = np.diff(changed, axis=2, prepend=changed[..., :1]).reshape(shape)
    peaks = np.maximum(steps.max(axis=3), -steps.min(axis=3))
    usual = np.partition(peaks, SLICES - IMPULSE_RANK, axis=2)[..., SLICES - IMPULSE_RANK, None]
    hit = (peaks > IMPULSE_RATIO * usual) & (peaks > IMPULSE_MIN)
    clipped = _clipped(before) & (changed != 0)
    squares = np.square(steps.reshape(changed.shape))
    power = squares.mean(axis=2)
    spiky = np.square(squares).mean(axis=2) > CRACKLE_KURTOSIS * np.square(power)
    crackle = spiky & (power > IMPULSE_MIN**2 / SLICES)
    where = np.nonzero(hit.any(axis=2) | clipped.any(axis=2) | crackle)
    step, left = steps[where], np.diff(after[where], axis=1, prepend=after[where][:, :1]).reshape(-1, *shape[2:])
    alike, size = (step * left).sum(axis=2), np.square(step).sum(axis=2)
    click = hit[where] & (alike <= ATTACK_LEFT * size)
    all_clicks = crackle[where] & (alike.sum(axis=1) <= ATTACK_LEFT * size.sum(axis=1))
    wide = click.copy()
    wide[:, 1:] |= click[:, :-1]
    wide[:, :-1] |= click[:, 1:]
    unchanged = np.repeat(wide, shape[3], axis=1) | clipped[where] | all_clicks[:, None]
    # The means that were taken from the frames had the click in them.
    rest = np.where(unchanged, 0.0, changed[where])
    rest -= rest.sum(axis=1, keepdims=True) / np.maximum((~unchanged).sum(axis=1, keepdims=True), 1)
    return np.where(unchanged, 0.0, rest), where


def _clipped(frames: FloatArray) -> NDArray[np.bool_]:
    """Tell which samples of frames [C, n_frames, length] are three or more alike at the frame's extremes."""
    flat = np.zeros(frames.shape, dtype=np.bool_)
    alike = frames[..., 1:] == frames[..., :-1]
    if not alike.any():
        return flat
    three = alike[..., 1:] & alike[..., :-1]
    for start in range(3):
        flat[..., start : start + three.shape[2]] |= three
    top, bottom = frames.max(axis=2, keepdims=True), frames.min(axis=2, keepdims=True)
    near = CLIPPED_RANGE * (top - bottom)
    return np.asarray(flat & ((frames >= top - near) | (frames <= bottom + near)))


def _power(level_db: float) -> float:
    return float(10 ** (level_db / 10))
