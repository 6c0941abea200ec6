"""The whole inspection of one recording: every detector, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

from audiorestore.audio.files import FileSource
from audiorestore.audio.signal import Source
from audiorestore.config import to_mapping
from audiorestore.damage.damage_map import map_damage
from audiorestore.damage.declip import analyse_clipping
from audiorestore.damage.gaps import analyse_gaps
from audiorestore.damage.hum import analyse_hum
from audiorestore.diagnosis import events, steady
from audiorestore.diagnosis.anomaly import AnomalyScorer
from audiorestore.diagnosis.channels import ChannelMeter
from audiorestore.diagnosis.finding import KINDS, Diagnosis, Finding, Unknown
from audiorestore.errors import InputError
from audiorestore.quality.inspection import Meters, sample_blocks

SHORTEST_SECONDS = 1.0

# What nobody can tell from one recording alone, or this program does not look for.
NEVER_TOLD = (
    Unknown("print-through", "not looked for: echoes before the sound are told from music that repeats by ear only"),
    Unknown("noise reduction", "not looked for: undecoded Dolby or dbx differs from a bright recording by ear only"),
)


def diagnose_file(source: FileSource, scorer: AnomalyScorer | None = None) -> Diagnosis:
    """Inspect a recording in a file; see `diagnose`.

    Raises:
        InputError: it cannot be read or measured.
    """
    try:
        return diagnose(source, scorer)
    except ValueError as error:
        raise InputError(source.path, expected="sound that can be measured", found=str(error)) from error


def diagnose(source: Source, scorer: AnomalyScorer | None = None) -> Diagnosis:
    """Inspect a recording in a few passes; what is kept of it grows by a kilobyte or so a second.

    Raises:
        ValueError: a sample is NaN or infinite.
    """
    rate, n_samples = source.sample_rate, source.n_samples
    meters, channels = Meters(rate, source.channels), ChannelMeter(rate, source.channels)
    for samples in sample_blocks(source):
        meters.add(samples)
        channels.add(samples)
    inspection = meters.inspection()
    gaps, walls, hum = analyse_gaps(source), analyse_clipping(source), analyse_hum(source)
    mapped = map_damage(source, clipping=walls, hum=hum, gaps=gaps)
    track = scorer.track(source) if scorer is not None and n_samples else None

    def found() -> Iterator[Finding]:
        yield from events.clipping(mapped, walls, rate)
        yield from events.dropouts(mapped, rate)
        yield from steady.hum(hum, n_samples)
        noises = [
            impulse
            for channel in range(source.channels)
            for impulse in events.clicks(meters.clicks, channel, mapped, rate, n_samples)
        ]
        noises += steady.hiss(meters.noise.floor_bands(), inspection, n_samples)
        yield from noises
        # What is heard in the pauses may also be the hum, the hiss or the crackle that has a name already.
        if hum is None and not any(finding.kind in ("hiss", "crackle") for finding in noises):
            yield from steady.unsteady(inspection, n_samples)
        yield from steady.rumble(meters, inspection)
        yield from channels.findings()
        yield from steady.band(meters.noise.spectrum(), rate, n_samples)
        if track is not None:
            yield from events.foreign(track, rate, n_samples)

    def order(finding: Finding) -> tuple[int, int, int]:
        return KINDS.index(finding.kind), finding.start, -1 if finding.channel is None else finding.channel

    return Diagnosis(
        sample_rate=rate,
        channels=source.channels,
        n_samples=n_samples,
        findings=tuple(sorted(found(), key=order)) if n_samples else (),
        unknown=(*_untold(source, has_hum=hum is not None, scored=track is not None), *NEVER_TOLD),
        measures=to_mapping(inspection),
        anomaly=track,
    )


def _untold(source: Source, *, has_hum: bool, scored: bool) -> Iterator[Unknown]:
    if source.n_samples < SHORTEST_SECONDS * source.sample_rate:
        yield Unknown("hiss", f"shorter than {SHORTEST_SECONDS:g} s")
    if not has_hum:
        yield Unknown("speed error", "no hum of the mains to measure by")
    if source.sample_rate <= 2 * steady.WALLS_HZ[0]:
        yield Unknown("lossy capture", f"nothing is recorded above {source.sample_rate / 2:g} Hz")
    if not scored:
        yield Unknown("anomaly", "no network with a calibration")
