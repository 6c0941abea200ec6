"""Page and picture of one restored recording, from its record and its files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath

from torch import Tensor

from audiorestore.audio.files import FileSource
from audiorestore.audio.signal import Source
from audiorestore.errors import InputError
from audiorestore.records.record import Record, residual_path
from audiorestore.report.page import write_page
from audiorestore.report.pictures import before_after
from audiorestore.report.survey import survey
from audiorestore.report.wanted import Wanted


def make(record: Record, source: Path, result: Path, wanted: Wanted, *, page: Path, picture: Path) -> None:
    """Draw and write what is wanted, in one look at both versions.

    Args:
        record: of the result.
        source, result: both versions; where the source is gone, it is what was removed, added to the result.
        wanted: what to make. page, picture: files to write.

    Raises:
        InputError: a version is not there, or is not that of the record. OutputError: a file cannot be written.
    """
    with versions(record, source, result) as (before, after):
        seen = survey(before, after)
        if wanted.picture:
            before_after(seen, PurePath(record.source.path).name, picture, force=wanted.force)
        if wanted.page:
            write_page(record, before, after, seen, page, megabytes=wanted.megabytes, force=wanted.force)


@contextmanager
def versions(record: Record, source: Path, result: Path) -> Iterator[tuple[Source, Source]]:
    """Open both versions of a recording.

    Raises:
        InputError: a version is not there, or has another shape than in the record.
    """
    with ExitStack() as stack:
        after = stack.enter_context(FileSource.open(result))
        residual = residual_path(result)
        before: Source
        if source.exists() or not residual.exists():
            before = stack.enter_context(FileSource.open(source))
        else:
            before = _Sum(after, stack.enter_context(FileSource.open(residual)))
        for path, sound in ((source, before), (result, after)):
            expected = tuple(record.source.sound[name] for name in ("sample_rate", "channels", "n_samples"))
            found = sound.sample_rate, sound.channels, sound.n_samples
            if found != expected:
                words = ("{} Hz, {} channels, {} samples".format(*shape) for shape in (expected, found))
                raise InputError(path, expected=f"the recording of the record, {next(words)}", found=next(words))
        yield before, after


@dataclass(frozen=True)
class _Sum:
    """The source, from what was kept and what was removed."""

    result: Source
    residual: Source

    @property
    def sample_rate(self) -> int:
        return self.result.sample_rate

    @property
    def channels(self) -> int:
        return self.result.channels

    @property
    def n_samples(self) -> int:
        return self.result.n_samples

    def read(self, start: int, stop: int) -> Tensor:
        return self.result.read(start, stop) + self.residual.read(start, stop)
