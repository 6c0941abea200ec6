"""What is there from end to end: hiss, rumble, hum, and the band that the sound fills.

All of it is read from the meters of ``quality/``; here it is judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from audiorestore.damage.hum import HumPlan
from audiorestore.diagnosis.finding import Finding, Kind
from audiorestore.quality.framing import FloatArray, decibels
from audiorestore.quality.inspection import Inspection, Meters
from audiorestore.quality.noise import NoiseBand

# ---- hiss: how steady a band must be, and how loud all of it
HISS_FROM_HZ = 400.0
STEADY = 1.6  # times the spread of Gaussian noise
STEADY_DB = 0.35  # and this much more, for short recordings
STEADIER = 0.35  # times that spread is too steady: what leaks from a held tone
LEAST_STEADY_SHARE = 0.35  # of the octaves above
QUIETEST_HISS_DBFS = -78.0
QUIETEST_BAND_DBFS = -115.0
INAUDIBLE_SNR_DB = 50.0
LOUDEST_HISS_SNR_DB = -3.0  # what is louder than the sound is the sound: held tones
COLOURS = ((-4.5, "brown"), (-1.5, "pink"), (1.5, "white"), (math.inf, "blue"))

# ---- noise that is not steady: streets, machines, rooms; told only where somebody speaks, as music has no pauses
NOISY_SPEECH_SNR_DB = 20.0
LEAST_SPEECH_SHARE = 0.3
MOST_MUSIC_SHARE = 0.4

# ---- rumble: under the lowest notes, against the octave above them
RUMBLE_HZ = (6.0, 25.0)
ABOVE_RUMBLE_HZ = (40.0, 80.0)
RUMBLE_SNR_DB = 40.0
LOUD_RUMBLE_SNR_DB = 26.0  # so near to the sound it needs no other sign
RUMBLE_OVER_DB = 5.0

# ---- the band
EDGE_OCTAVE_DB = 30.0
LOWEST_EDGE_HZ = 1000.0
HIGHEST_EDGE_HZ = 12_000.0
WALL_DB = 25.0
WALLS_HZ = (10_000.0, 20_800.0)
WALL_SHARE = 0.06  # width of a brick wall, of its frequency

NOMINAL_HUM_SHARE = 0.004  # mains are kept closer to their frequency than this


def hiss(bands: Sequence[NoiseBand], inspection: Inspection, n_samples: int) -> Iterator[Finding]:
    """Yield the hiss, if the floor of enough octaves is as steady as noise is, and can be heard beside the sound."""
    heard = [band for band in bands if band.low_hz >= HISS_FROM_HZ and _db(band.power) > QUIETEST_BAND_DBFS]
    steady = [
        band for band in heard if STEADIER * band.usual_db <= band.spread_db <= STEADY * band.usual_db + STEADY_DB
    ]
    octaves, steady_octaves = (sum(math.log2(band.high_hz / band.low_hz) for band in some) for some in (heard, steady))
    if not steady or steady_octaves < LEAST_STEADY_SHARE * octaves or inspection.snr_db is None:
        return
    level = _db(sum(band.power for band in steady))
    snr = inspection.snr_db + (inspection.noise_floor_dbfs or level) - level
    if level < QUIETEST_HISS_DBFS or not LOUDEST_HISS_SNR_DB < snr < INAUDIBLE_SNR_DB:
        return
    slope, colour = _colour(steady)
    share = steady_octaves / octaves
    margin = min(max((INAUDIBLE_SNR_DB - snr) / 15, 0), 1)
    details = {
        "level_dbfs": round(level, 1),
        "snr_db": round(snr, 1),
        "slope_db_per_octave": round(slope, 1),
        "colour": colour,
        "steady_share": round(share, 2),
    }
    yield Finding("hiss", 0, n_samples, None, round((0.4 + 0.6 * share) * (0.5 + 0.5 * margin), 3), _over(snr), details)


def unsteady(inspection: Inspection, n_samples: int) -> Iterator[Finding]:
    """Yield the noise in the pauses of speech, if it is loud."""
    snr, level = inspection.snr_db, inspection.noise_floor_dbfs
    speech, music = inspection.speech_share or 0.0, inspection.music_share or 0.0
    if snr is None or level is None or speech < LEAST_SPEECH_SHARE or music > MOST_MUSIC_SHARE:
        return
    if snr < NOISY_SPEECH_SNR_DB:
        confidence = min(0.5 + (NOISY_SPEECH_SNR_DB - snr) / 40, 0.9)
        details = {"level_dbfs": round(level, 1), "snr_db": round(snr, 1)}
        yield _whole("unsteady noise", n_samples, confidence, _over(snr), details)


def rumble(meters: Meters, inspection: Inspection) -> Iterator[Finding]:
    """Yield the rumble: a floor under the lowest notes that stands over that of the octave above, or near the sound."""
    if inspection.snr_db is None or inspection.noise_floor_dbfs is None:
        return
    low, above = (meters.hum.floor_density(*limits) for limits in (RUMBLE_HZ, ABOVE_RUMBLE_HZ))
    power = low * (RUMBLE_HZ[1] - RUMBLE_HZ[0])
    if not power:
        return
    snr = inspection.snr_db + inspection.noise_floor_dbfs - _db(power)
    over = _db(low) - _db(above)
    if snr > RUMBLE_SNR_DB or (over < RUMBLE_OVER_DB and snr > LOUD_RUMBLE_SNR_DB) or _db(power) < QUIETEST_HISS_DBFS:
        return
    confidence = 0.4 + max(LOUD_RUMBLE_SNR_DB - snr, 0) / 30 + max(over - RUMBLE_OVER_DB, 0) / 30
    details = {"level_dbfs": round(_db(power), 1), "snr_db": round(snr, 1)}
    yield _whole("rumble", meters.n_samples, min(confidence, 0.95), _over(snr + 5), details)


def hum(plan: HumPlan | None, n_samples: int) -> Iterator[Finding]:
    """Yield the hum of each channel that has any, and the error of speed that it tells of, if it was recorded."""
    if plan is None:
        return
    share = plan.spans_with_hum / plan.spans
    confidence = round(min(share * min(plan.evidence / 4.5, 1.0), 1.0), 3)
    for channel, levels in enumerate(plan.levels):
        power = sum(level**2 for level in levels) / 2
        if not power:
            continue
        harmonics = [number for number, level in enumerate(levels, 1) if level]
        details: dict[str, Any] = {
            "fundamental_hz": round(plan.fundamental_hz, 3),
            "wander_hz": round(plan.wander_hz, 3),
            "level_dbfs": round(_db(power), 1),
            "harmonics": harmonics,
            "harmonic_levels_dbfs": [round(_db(levels[number - 1] ** 2 / 2), 1) for number in harmonics],
        }
        severity = round(min(max((_db(power) + 75) / 45, 0.05), 1.0), 3)
        yield Finding("hum", 0, n_samples, channel, confidence, severity, details)
    nominal = min(plan.config.nominals_hz, key=lambda hertz: abs(hertz - plan.fundamental_hz))
    error = plan.fundamental_hz / nominal - 1
    if abs(error) > NOMINAL_HUM_SHARE:
        details = {
            "error_percent": round(100 * error, 2),
            "measured_by": f"hum at {plan.fundamental_hz:.2f} Hz, if it was recorded at {nominal:g} Hz with the sound",
        }
        yield Finding("speed error", 0, n_samples, None, 0.5, round(min(40 * abs(error), 1.0), 3), details)


def band(spectrum: FloatArray, sample_rate: int, n_samples: int) -> Iterator[Finding]:
    """Yield where the band ends early, and the brick wall of a lossy codec.

    Args:
        spectrum: mean power by frequency, [n_bins].
    """
    bin_hz = sample_rate / 2 / (len(spectrum) - 1)
    highest = sample_rate / 2
    if not spectrum.any() or highest <= 2 * LOWEST_EDGE_HZ:
        return
    centres, density = _smoothed(spectrum, bin_hz)
    edge = _edge(centres, density)
    if edge is not None and edge[0] <= min(HIGHEST_EDGE_HZ, 0.75 * highest):
        hertz, drop = edge
        details: dict[str, float] = {"high_hz": round(hertz), "drop_db_per_octave": round(drop, 1)}
        low = _low_edge(centres, density)
        if low is not None:
            details["low_hz"] = round(low)
        confidence = min(0.3 + (drop - EDGE_OCTAVE_DB) / 40, 0.98)
        severity = min(max(math.log2(16_000 / hertz) / 3, 0.05), 1.0)
        yield _whole("band limit", n_samples, confidence, severity, details)
    wall = _wall(spectrum, bin_hz)
    if wall is not None:
        hertz, drop = wall
        details = {"edge_hz": round(hertz), "drop_db": round(drop, 1)}
        yield _whole(
            "lossy capture", n_samples, min(0.3 + drop / 150, 0.7), min((20_800 - hertz) / 12_000, 1.0), details
        )


def _whole(kind: Kind, n_samples: int, confidence: float, severity: float, details: dict[str, Any]) -> Finding:
    return Finding(kind, 0, n_samples, None, round(confidence, 3), round(severity, 3), details)


def _smoothed(spectrum: FloatArray, bin_hz: float) -> tuple[FloatArray, FloatArray]:
    """Return the middles of sixths of octaves from 50 Hz to Nyquist, and the density in each in dB."""
    edges = 50.0 * 2 ** np.arange(0, math.log2(bin_hz * (len(spectrum) - 1) / 50.0) + 1e-9, 1 / 6)
    places = np.unique(np.round(edges / bin_hz).astype(int))
    places = places[places >= 1]
    power = np.add.reduceat(spectrum, places)[:-1] / np.diff(places)
    return np.sqrt(places[1:] * places[:-1]) * bin_hz, decibels(power)


def _edge(centres: FloatArray, density: FloatArray) -> tuple[float, float] | None:
    """Return the frequency from which a spectrum falls by `EDGE_OCTAVE_DB` in an octave, and by how much it falls."""
    best: tuple[float, float] | None = None
    for place in np.flatnonzero(centres >= LOWEST_EDGE_HZ):
        end = int(np.searchsorted(centres, 2 * centres[place] * 0.99))
        end = min(end, len(centres) - 1)
        # Where Nyquist is nearer than an octave, what falls there falls faster.
        drop = float(density[place] - density[end:].max())
        if drop >= EDGE_OCTAVE_DB and (best is None or drop > best[1]):
            best = float(centres[place]), drop
    return best


def _low_edge(centres: FloatArray, density: FloatArray) -> float | None:
    """Return the frequency under which there is little: 25 dB less than between 500 and 1000 Hz."""
    middle = density[(centres >= 500) & (centres < 1000)].mean()
    full = np.flatnonzero(density > middle - 25)
    first = float(centres[full[0]])
    return first if first > 120 else None


def _wall(spectrum: FloatArray, bin_hz: float) -> tuple[float, float] | None:
    """Return where a spectrum falls as if cut off, and by how much."""
    best: tuple[float, float] | None = None
    width = max(round(250 / bin_hz), 2)
    for hertz in np.arange(WALLS_HZ[0], min(WALLS_HZ[1], bin_hz * len(spectrum) * 0.97), 125.0):
        place, gap = round(hertz / bin_hz), round(WALL_SHARE / 2 * hertz / bin_hz)
        below = decibels(spectrum[place - gap - width : place - gap].mean())
        above = decibels(spectrum[place + gap : place + gap + width].mean())
        rest = decibels(spectrum[place + gap :].max())
        drop = float(below - max(float(above), float(rest)))
        if drop >= WALL_DB and (best is None or drop > best[1]):
            best = float(hertz), drop
    return best


def _colour(bands: Sequence[NoiseBand]) -> tuple[float, str]:
    """Return the slope of a noise's density in dB an octave, and what noise of that slope is called."""
    if len(bands) < 3:
        return 0.0, "white"
    octaves = [math.log2(math.sqrt(band.low_hz * band.high_hz)) for band in bands]
    levels = [_db(band.power / (band.high_hz - band.low_hz)) for band in bands]
    slope = float(np.polyfit(octaves, levels, 1)[0])
    return slope, next(name for highest, name in COLOURS if slope < highest)


def _over(snr_db: float) -> float:
    """Return how much noise at this distance from the sound disturbs: 0 from 50 dB on, 1 at 10 dB."""
    return round(min(max((50 - snr_db) / 40, 0.02), 1.0), 3)


def _db(power: float) -> float:
    return 10 * math.log10(max(power, 1e-30))
