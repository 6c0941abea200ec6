"""``audiorestore restore``: files and folders in, restored files with their records out."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from audiorestore.cli.again import start_again, state_before
from audiorestore.cli.console import (
    bar,
    change,
    duration,
    figure,
    messages,
    print_json,
    print_notes,
    print_table,
    progress_bars,
    reason,
    results,
)
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import DeviceOption, ForceOption, JsonOption, QuietOption
from audiorestore.cli.package import BagInfoOption, PackageOption, ProfileOption, packaging
from audiorestore.cli.plan import show_plans
from audiorestore.config import find_config, from_mapping, load_config, read_yaml, to_mapping
from audiorestore.errors import AudioRestoreError, ConfigError, InputError, printable
from audiorestore.silence import HANG_SECONDS, Watch, words

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.text import Text

    from audiorestore.audio.remote import Remote, RemoteFile
    from audiorestore.audio.storage import FoundFile
    from audiorestore.jobs import Job
    from audiorestore.records.record import Record
    from audiorestore.report.wanted import Wanted
    from audiorestore.restoration.pipeline import Progress, RestorationConfig
    from audiorestore.restoration.restorer import Restorer

logger = logging.getLogger(__name__)

COLUMNS = (
    *("file", "s", "noise dBFS", "removed dB", "deviation dB", "clicks /min", "hum dBFS", "clipped", "LUFS"),
    "status",
)


# What fits on a terminal; bars are full at these values. A pipe gets all columns.
COMPACT = ("file", "length", "removed dB", "deviation dB", "clicks /min", "hum dBFS", "status")
_FULL_REMOVED_DB, _FULL_CHANGED_DB = 30.0, 5.0
_STYLES = {"done": "green", "look": "yellow", "refused": "red", "failed": "bold red"}


@dataclass(frozen=True)
class Outcome:
    """How one file ended: with a record, or with the reason why there is none; ``undrawn``: why it has no page."""

    source: str
    result: str | None = None
    record: Record | None = None
    reason: str = ""
    undrawn: str = ""

    @classmethod
    def from_data(cls, values: dict[str, Any]) -> Outcome:
        """Return what `to_mapping` made of one."""
        from audiorestore.records.record import Record

        record = values["record"]
        return cls(**{**values, "record": record and from_mapping(Record, record, where=values["source"])})

    @property
    def refused(self) -> bool:
        """Whether the quality plan refused the result."""
        return self.record is not None and self.record.refused

    @property
    def status(self) -> str:
        """One word."""
        return "failed" if self.reason else "refused" if self.refused else "done"


def restore(
    sources: Annotated[
        list[str], typer.Argument(help="Recordings, or folders with all below them; paths or URLs.", metavar="SOURCE")
    ],
    out: Annotated[
        str,
        typer.Option("--output", "-o", help="Folder or URL for the results; a file name for one file.", metavar="OUT"),
    ],
    config: Annotated[str, typer.Option(help="Shipped preset, or YAML file.", metavar="NAME")] = "default",
    strength: Annotated[
        float | None, typer.Option(help="Most by which anything is reduced, in dB.", metavar="DB", min=0)
    ] = None,
    model: Annotated[str | None, typer.Option(help="Shipped model, or checkpoint folder.", metavar="NAME")] = None,
    degap: Annotated[bool | None, typer.Option(help="Mend dropouts.", show_default=False)] = None,
    declip: Annotated[bool | None, typer.Option(help="Rebuild clipped peaks.", show_default=False)] = None,
    decrackle: Annotated[bool | None, typer.Option(help="Fill in what crackle took.", show_default=False)] = None,
    dehum: Annotated[bool | None, typer.Option(help="Remove mains hum.", show_default=False)] = None,
    denoise: Annotated[bool | None, typer.Option(help="Run the network.", show_default=False)] = None,
    overflow: Annotated[
        str | None,
        typer.Option(help="clip, float or attenuate: what to do with peaks over full scale.", metavar="MODE"),
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="Quality plan that results must pass: shipped, or YAML file.", metavar="NAME")
    ] = None,
    auto: Annotated[
        bool, typer.Option("--auto", help="Inspect first, and do no more than the findings call for.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be done and why; write nothing.")] = False,
    residual: Annotated[bool, typer.Option("--residual", help="Also write what was removed.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Also write pages to look at and listen to, and an index of them.")
    ] = False,
    pictures: Annotated[bool, typer.Option("--pictures", help="Also write spectrograms as NAME.png.")] = False,
    package: PackageOption = None,
    profile: ProfileOption = None,
    bag_info: BagInfoOption = None,
    device: DeviceOption = "auto",
    hang_seconds: Annotated[
        float, typer.Option(help="Cut a file off of which there is no sign of life for so long.", metavar="SECONDS")
    ] = HANG_SECONDS,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Restore recordings. Sources are never changed; names, folders and formats are kept.

    Beside each result NAME stands NAME.restoration.json, the record of what was done.
    """
    from audiorestore.audio.urls import is_url
    from audiorestore.distant import at_hand
    from audiorestore.jobs import make_restorer
    from audiorestore.report.wanted import Wanted
    from audiorestore.restoration.pipeline import Decided

    if not hang_seconds > 0:
        raise ConfigError(f"hang_seconds: expected more than 0, found {hang_seconds:g}")
    if package is not None and is_url(out):
        raise ConfigError("package: expected a path for --output (audiorestore package takes URLs), found a URL")
    options = {
        "strength_db": strength,
        "model": model,
        "degap": degap,
        "declip": declip,
        "decrackle": decrackle,
        "dehum": dehum,
        "denoise": denoise,
        "overflow": overflow,
        "quality": None if quality is None else read_yaml(find_config("qc", quality)),
    }
    given = {name: value for name, value in options.items() if value is not None}
    settings = _settings(config, {**given, "auto": True} if auto else given)
    if settings.auto:
        settings = settings.holding(*(name for name in get_args(Decided) if name in given))
    wanted = Wanted(page=report, picture=pictures, force=force) if report or pictures else None
    before = state_before()
    if before is not None:
        shutil.rmtree(before["here"], ignore_errors=True)  # the copies
    with tempfile.TemporaryDirectory(prefix="audiorestore-") as here:
        tasks, outcomes = _plan(sources, out, Path(here), residual=residual)
        if plan:
            near = [(task.name, at_hand(task.job, origin=task.origin, target=None, force=True)) for task in tasks]
            show_plans(settings, near, [(item.source, item.reason) for item in outcomes], as_json=as_json)
            return
        total = len(tasks) + len(outcomes)
        if before is not None:
            outcomes = [Outcome.from_data(values) for values in before["outcomes"]]
            tasks = _left(tasks, outcomes)
        pack = packaging(package, profile, bag_info or [], Path(out), force=force)
        restorer = make_restorer(settings, device=device)
        watch = Watch(hang_seconds)
        try:
            with _display(tasks, total, quiet=quiet) as display:
                for task in tasks:

                    def cut_off(task: _Task = task, display: _Display = display) -> None:
                        outcome = Outcome(task.name, task.result, reason=words(hang_seconds))
                        try:
                            display.finish(outcome, task.size)
                            display.stop()
                        finally:  # also where nobody reads what is told
                            start_again({"outcomes": [to_mapping(item) for item in (*outcomes, outcome)], "here": here})

                    with watch.over(cut_off):
                        outcome = _restore(task, settings, restorer, display, watch.alive, wanted, force=force)
                    outcomes.append(outcome)
                    display.finish(outcome, task.size)
        finally:  # also when interrupted: what is done is done
            _show(outcomes, left=total - len(outcomes), as_json=as_json)
    if report and not is_url(out) and Path(out).is_dir():
        _write_index(outcomes, Path(out), force=force)
    failed = sum(bool(outcome.reason) for outcome in outcomes)
    if pack is not None:
        good = [Path(outcome.result) for outcome in outcomes if outcome.result and not outcome.refused]
        pack.make(good, failed=failed)
    if failed or any(outcome.undrawn for outcome in outcomes):
        raise typer.Exit(ExitCode.FAILED)
    if any(outcome.refused for outcome in outcomes):
        raise typer.Exit(ExitCode.GATE)


def _settings(preset: str, options: dict[str, Any]) -> RestorationConfig:
    """Return a preset, changed by what was given on the command line.

    Raises:
        ConfigError: no such preset, or a setting that does not fit.
    """
    from audiorestore.restoration.pipeline import RestorationConfig

    base = load_config(RestorationConfig, find_config("restore", preset))
    return from_mapping(RestorationConfig, {**to_mapping(base), **options}, where="options")


@dataclass(frozen=True)
class _Task:
    """A file to restore.

    Args:
        name: path or URL of the source. size: its bytes.
        job: what is to be done, with places here for what is at URLs.
        origin: where the source really is. target: where the results go, and the folder that stands for it here.
    """

    name: str
    size: int
    job: Job
    origin: tuple[Remote, RemoteFile] | None = None
    target: tuple[Remote, Path] | None = None

    @property
    def result(self) -> str:
        """Path or URL of the result."""
        if self.target is None:
            return str(self.job.result)
        return self.target[0].address(self.job.result.relative_to(self.target[1]).as_posix())


def _left(tasks: Sequence[_Task], outcomes: Sequence[Outcome]) -> list[_Task]:
    """Return what is left to do after the last file was cut off; nothing half-written is left of that one."""
    from audiorestore.audio.partfile import parts_of
    from audiorestore.records.record import names_of

    hung, ended = outcomes[-1].source, {outcome.source for outcome in outcomes}
    for job in (task.job for task in tasks if task.name == hung):
        for place in filter(None, (job.result, job.quarantine)):
            for part in parts_of(*names_of(place)):
                part.unlink(missing_ok=True)
    return [task for task in tasks if task.name not in ended]


def _plan(sources: Sequence[str], out: str, here: Path, *, residual: bool) -> tuple[list[_Task], list[Outcome]]:
    """Return what to do, and the sources that cannot be used; ``here`` is an empty folder.

    Raises:
        InputError: there is no sound. OutputError: results would collide. ConfigError: ``out`` cannot hold them.
    """
    from audiorestore.audio.outputs import plan_output, plan_outputs
    from audiorestore.audio.storage import scan
    from audiorestore.audio.urls import is_url
    from audiorestore.distant import target_of
    from audiorestore.jobs import Job
    from audiorestore.records.record import quarantine_path, residual_path

    distant, problems = _listed([source for source in sources if is_url(source)], here)
    local = [Path(source) for source in sources if not is_url(source)]
    searched = scan(local, exclude=None if is_url(out) else Path(out))
    found = [*searched.files, *(item for item, _ in distant)]
    origins = {item.path: origin for item, origin in distant}
    failed = [Outcome(error.path, reason=reason(error, error.path)) for error in (*searched.problems, *problems)]
    if not found and not failed:
        raise InputError(sources[0], expected="sound files", found=f"none among {searched.skipped} files")
    single = len(found) == 1 and not (local and local[0].is_dir())
    place, name = _place(out, single=single)
    target = (target_of(place), here / "results") if is_url(out) else None
    folder = Path(out) if target is None else target[1] / name
    if len(found) > 1 and folder.is_file():
        raise ConfigError(f"{out}: expected a folder for {len(found)} results, found a file")
    outputs = plan_output(found[0], folder) if single else plan_outputs(found, folder)
    if outputs.problems:
        raise outputs.problems[0]
    tasks = []
    for planned in outputs.files:
        result, origin = planned.result, origins.get(planned.source)
        job = Job(
            planned.source,
            result,
            residual_path(result) if residual else None,
            quarantine_path(result, folder if result != folder else folder.parent),
        )
        shown = str(planned.source) if origin is None else origin[0].address(origin[1].name)
        tasks.append(_Task(shown, _size(planned.source) if origin is None else origin[1].size, job, origin, target))
    return tasks, failed


def _listed(
    sources: Sequence[str], here: Path
) -> tuple[list[tuple[FoundFile, tuple[Remote, RemoteFile]]], list[InputError]]:
    """Return the recordings at URLs, each with a path that is nowhere, to be named by; and what cannot be used."""
    from audiorestore.audio.remote import connect
    from audiorestore.audio.storage import FoundFile
    from audiorestore.audio.urls import Url

    found, problems = [], list[InputError]()
    for number, source in enumerate(sources):
        remote = connect(Url.parse(source))
        listing = remote.files()
        problems += listing.problems
        for file in listing.files:
            path = here / "sources" / str(number) / file.name
            found.append((FoundFile(path, Path(file.name)), (remote, file)))
    return found, problems


def _place(out: str, *, single: bool) -> tuple[str, str]:
    """Return the URL of the folder for results, and the name of a result that ``out`` gives, if it does."""
    from audiorestore.audio.formats import CONTAINERS
    from audiorestore.audio.urls import is_url

    folder, _, name = out.rstrip("/").rpartition("/")
    if is_url(out) and single and not out.endswith("/") and Path(name).suffix.lower() in CONTAINERS:
        return folder, name
    return out, ""


def _restore(
    task: _Task,
    settings: RestorationConfig,
    restorer: Restorer | None,
    display: _Display,
    alive: Callable[[], None],
    wanted: Wanted | None,
    *,
    force: bool,
) -> Outcome:
    """Restore one file; whatever goes wrong with it, the next ones are not its victims."""
    from audiorestore.distant import at_hand
    from audiorestore.jobs import run_job

    try:
        with at_hand(task.job, origin=task.origin, target=task.target, force=force) as job:
            job, show = replace(job, overwrite_quarantine=force), display.start(task, job.source)

            def go_on(done: int, total: int) -> None:
                alive()
                if show is not None:
                    show(done, total)

            record = run_job(job, settings, restorer, force=force, progress=go_on)
            undrawn = "" if wanted is None else _draw(job, record, wanted)
    except Exception as error:
        logger.debug("%s", task.name, exc_info=True)
        return Outcome(task.name, task.result, reason=reason(error, task.name))
    return Outcome(task.name, record.result.path, record, undrawn=undrawn)


def _draw(job: Job, record: Record, wanted: Wanted) -> str:
    """Make page and picture; return why there are none, which is no reason to lose the restoration."""
    from audiorestore.records.record import page_path, picture_path
    from audiorestore.report.making import make

    result = job.place(record)
    try:
        make(record, job.source, result, wanted, page=page_path(result), picture=picture_path(result))
    except Exception as error:
        logger.debug("%s", result, exc_info=True)
        return f"restored, but without page or picture: {reason(error, str(result))}"
    return ""


def _write_index(outcomes: Sequence[Outcome], folder: Path, *, force: bool) -> None:
    """Write the page of the run, with a link to each page that is there."""
    from audiorestore.audio.naming import INDEX
    from audiorestore.records.record import page_path
    from audiorestore.report.index import Entry, link, write_index

    index = folder / INDEX
    entries = []
    for outcome in outcomes:
        if outcome.record is None or outcome.result is None:
            entries.append(Entry(outcome.source, "failed", reason=outcome.reason))
            continue
        page = page_path(Path(outcome.result))
        there = page.is_file() and folder in page.parents
        entries.append(Entry.of(outcome.record, outcome.source, link(page, index) if there else ""))
    write_index(entries, index, title=folder.resolve().name, force=force)
    messages().print(printable(str(index)), markup=False, soft_wrap=True)


def _show(outcomes: Sequence[Outcome], *, left: int, as_json: bool) -> None:
    """Print a row for each file, and the sum of all; ``left`` were not finished when the command was stopped."""
    if as_json:
        print_json({"files": [_plain(outcome) for outcome in outcomes], "left": left})
        return
    if results().is_terminal:
        print_table(COMPACT, map(_compact, outcomes), left=(COMPACT[2], COMPACT[3], "status"))
    else:
        print_table(COLUMNS, map(_row, outcomes), left=("status",))
    print_notes((outcome.source, note) for outcome in outcomes for note in _notes(outcome))
    done = [outcome.record for outcome in outcomes if outcome.record]
    sound = sum(record.measures["before"]["seconds"] for record in done)
    taken = sum(record.seconds for record in done)
    refused = sum(outcome.refused for outcome in outcomes)
    messages().print(
        f"{len(done)} restored, {len(outcomes) - len(done)} failed"
        + (f", {refused} of the restored refused by the quality plan" if refused else "")
        + (f", stopped with {left} left" if left else "")
        + (f"; {duration(sound)} of sound in {duration(taken)}, {sound / taken:.1f} x real time" if taken else "")
    )


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "source": outcome.source,
        "result": outcome.result,
        "status": outcome.status,
        "error": outcome.reason or outcome.undrawn or None,
        "record": to_mapping(outcome.record) if outcome.record else None,
    }


def _notes(outcome: Outcome) -> tuple[str, ...]:
    """Return why a file failed, or what a person should know of its result."""
    if outcome.record is None:
        return (outcome.reason,)
    return (*outcome.record.warnings, *filter(None, [outcome.undrawn]))


def _row(outcome: Outcome) -> tuple[str, ...]:
    name = printable(outcome.source)
    if outcome.record is None:
        return (name, *("-" for _ in COLUMNS[1:-1]), "failed")
    before, after, moved = (outcome.record.measures[part] for part in ("before", "after", "change"))
    return (
        name,
        figure(before["seconds"]),
        change(before["noise_floor_dbfs"], after["noise_floor_dbfs"]),
        figure(moved["noise_removed_db"]),
        figure(moved["programme_deviation_db"], 2),
        change(before["clicks_per_minute"], after["clicks_per_minute"]),
        change(before["hum_dbfs"], after["hum_dbfs"]),
        change(before["clipped_samples"], after["clipped_samples"], 0),
        change(before["integrated_lufs"], after["integrated_lufs"]),
        outcome.status,
    )


def _compact(outcome: Outcome) -> tuple[str | Text, ...]:
    """Return a row for a terminal: fewer figures, and bars for those that tell most."""
    from rich.text import Text

    name, record = printable(outcome.source.rpartition("/")[2]), outcome.record
    if record is None:
        return (name, *("-" for _ in COMPACT[1:-1]), Text("failed", _STYLES["failed"]))
    before, after, moved = (record.measures[part] for part in ("before", "after", "change"))
    look = outcome.status == "done" and record.quality.get("outcome") == "warn"
    return (
        name,
        duration(before["seconds"]),
        bar(moved["noise_removed_db"], _FULL_REMOVED_DB, style="cyan"),
        bar(moved["programme_deviation_db"], _FULL_CHANGED_DB, style="magenta", digits=2),
        change(before["clicks_per_minute"], after["clicks_per_minute"], 0),
        change(before["hum_dbfs"], after["hum_dbfs"], 0),
        Text("done, look" if look else outcome.status, _STYLES["look" if look else outcome.status]),
    )


class _Display:
    """Progress over all files: a bar on a terminal, a line a file elsewhere."""

    def __init__(self, tasks: Sequence[_Task], total: int, bars: Bars, *, quiet: bool) -> None:
        self._bars = bars
        self._lines = not quiet and bars.disable
        self._count = total
        self._finished = total - len(tasks)
        self._bytes = 0
        self._task: TaskID = bars.add_task("", total=sum(task.size for task in tasks), speed="")

    def start(self, task: _Task, source: Path) -> Progress | None:
        """Return what `run_job` is to call while it works on this file; None if nobody looks."""
        if self._bars.disable:
            return None
        started, rate = time.monotonic(), _sample_rate(source)
        self._bars.update(self._task, description=self._name(task.name))

        def show(done: int, total: int) -> None:
            speed = f"{done / rate / (time.monotonic() - started):.1f} x real time" if rate else ""
            self._bars.update(self._task, completed=self._bytes + task.size * done // total, speed=speed)

        return show

    def finish(self, outcome: Outcome, size: int) -> None:
        """Count a file as worked on, whichever way it ended."""
        self._bytes += size
        self._bars.update(self._task, completed=self._bytes)
        if self._lines:
            status = f"failed: {outcome.reason}" if outcome.reason else outcome.status
            self._bars.console.print(f"{self._name(outcome.source)}: {printable(status)}", markup=False)
        self._finished += 1

    def stop(self) -> None:
        """Give the terminal back."""
        self._bars.stop()

    def _name(self, source: str) -> str:
        return f"{self._finished + 1}/{self._count} {printable(source.rpartition('/')[2])}"


@contextmanager
def _display(tasks: Sequence[_Task], total: int, *, quiet: bool) -> Iterator[_Display]:
    with progress_bars(quiet=quiet) as bars:
        yield _Display(tasks, total, bars, quiet=quiet)


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _sample_rate(path: Path) -> int | None:
    """Return the sample rate in Hz, or None if the file cannot be read (which the restoration will say)."""
    from audiorestore.audio.files import FileSource

    with suppress(AudioRestoreError), FileSource.open(path) as source:
        return source.sample_rate
    return None
