"""``audiorestore train``: train a network, or go on with a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import duration, figure, messages, print_json, print_table
from audiorestore.cli.options import DeviceOption, JsonOption, QuietOption
from audiorestore.errors import DependencyError

if TYPE_CHECKING:
    from audiorestore.training.trainer import Progress

Listener = Callable[["Progress"], None]

Folders = list[Path]


def train(
    config: Annotated[str, typer.Argument(help="Shipped training recipe, or YAML file.", metavar="CONFIG")],
    clean: Annotated[Folders, typer.Option(help="Folder of clean sound; may be repeated.", metavar="DIR")],
    run: Annotated[Path, typer.Option(help="Folder of the run; an existing one goes on.", metavar="DIR")],
    noise: Annotated[Folders | None, typer.Option(help="Folder of recorded noise; repeatable.", metavar="DIR")] = None,
    rir: Annotated[
        Folders | None, typer.Option(help="Folder of room impulse responses; repeatable.", metavar="DIR")
    ] = None,
    validation: Annotated[Path | None, typer.Option(help="CSV of development pairs.", metavar="CSV")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all, instead of the recipe's.", min=1)] = None,
    decay_steps: Annotated[
        int | None, typer.Option(help="Last steps, over which the rate falls to zero, instead of the recipe's.", min=1)
    ] = None,
    processes: Annotated[int | None, typer.Option(help="On a CPU; one a core if not given.", min=1)] = None,
    device: DeviceOption = "auto",
    start_from: Annotated[
        Path | None, typer.Option("--from", help="Run to branch off from, or checkpoint to start with.", metavar="RUN")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded sound.", metavar="DIR")] = None,
    stop_after: Annotated[
        float | None, typer.Option(help="Stop and keep the state after this time.", metavar="SECONDS", min=0)
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves to RUN/tensorboard.")] = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network. The same command goes on with a run that was stopped."""
    from audiorestore.config import find_config, load_config
    from audiorestore.restoration.restorer import choose_device
    from audiorestore.training.trainer import TrainingConfig, TrainingData
    from audiorestore.training.trainer import train as run_training

    recipe = load_config(TrainingConfig, find_config("training", config))
    recipe = replace(recipe, steps=steps or recipe.steps, decay_steps=decay_steps or recipe.decay_steps)
    data = TrainingData(tuple(clean), tuple(noise or ()), tuple(rir or ()), validation)
    last = _Last()
    with ExitStack() as stack:
        listeners: list[Listener] = [last]
        if tensorboard:
            listeners.append(stack.enter_context(_curves(run / "tensorboard")))
        if not quiet:
            listeners.append(stack.enter_context(_bar()))
        run_training(
            recipe,
            data,
            run,
            processes=processes,
            device=str(choose_device(device)),
            report=lambda progress: _tell(listeners, progress),
            start_from=start_from,
            cache=cache,
            stop_after_seconds=stop_after,
        )
    last.show(run, as_json=as_json)


def _tell(listeners: list[Listener], progress: Progress) -> None:
    for listener in listeners:
        listener(progress)


class _Last:
    """Remembers the latest progress, and the latest validation."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.scores: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        self.progress = progress
        if progress.scores:
            self.scores = progress.scores.summary()

    def show(self, run: Path, *, as_json: bool) -> None:
        """Print how the run ended."""
        step = self.progress.step if self.progress else None
        loss = self.progress.loss if self.progress else None
        if as_json:
            print_json({"run": run, "step": step, "loss": loss, "validation": self.scores or None})
            return
        names = tuple(self.scores)
        row = (str(run), figure(step, 0), figure(loss, 4), *(figure(self.scores[name], 2) for name in names))
        print_table(("run", "step", "loss", *(f"{name} dB" for name in names)), [row])


@contextmanager
def _bar() -> Iterator[Listener]:
    """Give a listener that draws a progress bar on standard error, or nothing if that is no terminal."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = messages()
    columns = (
        TextColumn("step {task.completed:,.0f} of {task.total:,.0f}"),
        BarColumn(),
        TextColumn("{task.description}"),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task("starting", total=1)
        scores = ""

        def show(progress: Progress) -> None:
            nonlocal scores
            if progress.scores:
                scores = "".join(f", {name} {value:.2f} dB" for name, value in progress.scores.summary().items())
            description = (
                f"loss {progress.loss:.4f}, {progress.audio_per_second:.1f} s of sound a second, "
                f"{duration(progress.seconds_left)} left{scores}"
            )
            bars.update(task, completed=progress.step, total=progress.steps, description=description)

        yield show


@contextmanager
def _curves(folder: Path) -> Iterator[Listener]:
    """Give a listener that writes TensorBoard curves.

    Raises:
        DependencyError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DependencyError(
            "tensorboard: expected this package for --tensorboard, found none; install audiorestore[tensorboard]"
        ) from error
    with SummaryWriter(folder) as writer:

        def write(progress: Progress) -> None:
            writer.add_scalar("loss", progress.loss, progress.step)
            writer.add_scalar("audio_seconds_per_second", progress.audio_per_second, progress.step)
            for name, value in (progress.scores.summary() if progress.scores else {}).items():
                writer.add_scalar(f"validation/{name}_db", value, progress.step)

        yield write
