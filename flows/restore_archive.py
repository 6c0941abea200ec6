"""The flow: search and plan, restore in batches, verify what was written, sum up.

Prefect shows the run; what is finished is known by the ledger alone. So Prefect's cache and its stored results
stay off, and a run is resumed by running again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from inspect import signature
from typing import Annotated, Any, Protocol, TypeVar

from prefect import Flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner
from pydantic import Field

from audiorestore.audio.urls import Url, is_url
from audiorestore.config import to_mapping
from audiorestore.errors import AudioRestoreError
from flows import work
from flows.crew import crew_of, manned
from flows.journal import note
from flows.morning import morning_of, write
from flows.outcome import BatchResult, Plan, Summary
from flows.presence import announce
from flows.remote import patiently
from flows.runners import runner_of, submitting
from flows.settings import Archive
from flows.shards import Runs, ServerRuns, Shard, begun, shard_config
from flows.watchers import watched
from flows.webhook import Broken, tell, told_if_broken
from flows.work import Pace

T = TypeVar("T")

T_co = TypeVar("T_co", covariant=True)


class _Future(Protocol[T_co]):
    def result(self) -> T_co:
        """Wait for it."""
        ...


COMPLETED_WITH_FAILURES = "Completed with failures"
COMPLETED_WITH_REFUSALS = "Completed with refusals"
_ROUNDS = 5  # in which files are begun again whose process has died
_ROWS = 500  # of a table that people look at


class TooManyFailuresError(AudioRestoreError):
    """More files failed than the settings allow; ``summary`` says which."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__(summary.lines()[0])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the summary, not with the message."""
        return type(self), (self.summary,)


# A path, or a URL without user, password and query. The server holds parameters to it before it writes them down.
Place = Annotated[
    str,
    Field(pattern=r"^(/[\s\S]*|[^:]*(:([^/]|/[^/])[\s\S]*)?|[A-Za-z][A-Za-z0-9+.-]*://[^@/?#]+(/[^?#]*)?)$"),
]


class _DiscreetFlow(Flow[..., State[Any]]):
    """A flow whose run is entered on the server only after its places are known to hold no secrets."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        given = {**dict(zip(signature(self.fn).parameters, arguments, strict=False)), **options}
        for text in (given.get("source"), given.get("destination")):
            if isinstance(text, str) and is_url(text):
                Url.parse(text)
        return super().__call__(*arguments, **options)


@partial(_DiscreetFlow, name="restore-archive", flow_run_name="{source}", persist_result=False)
def restore_archive(
    source: Place, destination: Place, config: dict[str, Any] | None = None, state: str | None = None
) -> State[Any]:
    """Restore an archive: what the ledger does not know as done yet.

    Args:
        source: folder of recordings, or one file; a path, or a URL without credentials.
        destination: folder for the results, which keep folders and names; a path, or a URL.
        config: settings (`flows.settings.BatchConfig`); the shipped default without it.
        state: folder of the ledger; without it the destination, or a folder of the user's where that is a URL.

    Returns:
        Completed; Completed with refusals, if the quality plan refused some; Completed with failures; or Failed, if
        more files failed than ``allowed_failures`` allows.
    """
    announce()
    with told_if_broken(destination, get_run_logger().warning) as broken:
        return _restored(Archive.of(source, destination, config, state=state), broken)


def _restored(archive: Archive, broken: Broken) -> State[Any]:
    work.check(archive)
    started = time.monotonic()
    plan = plan_archive(archive)
    get_run_logger().info(
        f"run {plan.run}: {plan.found} files found, {plan.unchanged} done before, {plan.refused} refused before, "
        f"{plan.pending} to do, {plan.held} in work elsewhere"
    )
    note("begun", archive, plan.run, found=plan.found, pending=plan.pending, held=plan.held)
    latest, result = plan, BatchResult()
    broken.summary = lambda: work.summarise(archive, plan, result, seconds=time.monotonic() - started)
    with watched(archive, plan.run), manned(archive.config), runner_of(archive.config) as runner:
        try:
            for _ in range(_ROUNDS):
                sharded = bool(archive.config.shards)
                result += _sharded(archive, latest, ServerRuns()) if sharded else _restore(archive, latest, runner)
                if not work.is_left(archive, plan.run):
                    break
                latest = plan_archive(archive)  # files that died with a process elsewhere
                if not latest.pending:
                    break
            _verify(archive, plan, runner)
        except BaseException:  # a cancelled run too; before the runner waits for its tasks
            work.stop(archive, latest.run)
            raise
    summary = work.summarise(archive, plan, result, seconds=time.monotonic() - started)
    if archive.config.report:
        _write_index(archive, plan)
    ended = final_state(summary, archive.config.allowed_failures)
    patiently(lambda: publish(summary, work.table(archive, plan.run, _ROWS)))
    patiently(lambda: report(archive, summary, ended))
    return ended


def _write_index(archive: Archive, plan: Plan) -> None:
    """Write the page of the run; that it fails is no reason to lose the run."""
    try:
        work.write_index(archive, plan)
    except (AudioRestoreError, OSError) as error:
        get_run_logger().warning(f"no index of the pages: {error}")


def parameters(archive: Archive) -> dict[str, Any]:
    """Return what the flow is called with to restore a batch: plain values."""
    return {
        "source": str(archive.source),
        "destination": str(archive.destination),
        "config": to_mapping(archive.config),
        "state": None if archive.state is None else str(archive.state),
    }


@task(name="plan", cache_policy=NO_CACHE, persist_result=False)
def plan_archive(archive: Archive) -> Plan:
    """Search the source, and enter into the ledger what is to be done."""
    return work.plan(archive)


@task(name="restore", cache_policy=NO_CACHE, persist_result=False)
def restore_files(archive: Archive, run: int, names: tuple[str, ...]) -> BatchResult:
    """Restore some files; one that fails costs a line in the log and its row in the ledger."""
    return crew_of(archive.config).restore(archive, run, names, get_run_logger().warning)


@task(name="verify", cache_policy=NO_CACHE, persist_result=False)
def verify_files(archive: Archive, names: tuple[str, ...]) -> int:
    """Read some results again and compare them with the ledger; return how many are wrong."""
    return work.verify_batch(archive, names, get_run_logger().warning)


def final_state(summary: Summary, allowed_failures: float) -> State[Any]:
    """Return the state that a run with this outcome ends in; its data is the summary."""
    message = summary.lines()[0]
    if summary.good:
        return Completed(message=message, data=summary)
    if summary.complete:
        return Completed(name=COMPLETED_WITH_REFUSALS, message=message, data=summary)
    if summary.failure_ratio <= allowed_failures:
        return Completed(name=COMPLETED_WITH_FAILURES, message=message, data=summary)
    return Failed(message=message, data=TooManyFailuresError(summary))


def summary_of(state: State[Any]) -> Summary:
    """Return the summary from the state that a run ended in.

    Raises:
        Exception: what ended the run before there was a summary.
    """
    result = state.result(raise_on_failure=False)
    if isinstance(result, TooManyFailuresError):
        return result.summary
    if isinstance(result, Summary):
        return result
    raise result if isinstance(result, Exception) else RuntimeError(f"the run ended as {state.name}: {state.message}")


def publish(summary: Summary, table: list[dict[str, Any]]) -> None:
    """Show the outcome in Prefect: numbers, and a table of files in which those that failed come first."""
    numbers = {name: value for name, value in vars(summary).items() if name not in ("failures", "refusals", "problems")}
    create_table_artifact(key="restoration-summary", table=[numbers], description=summary.lines()[0])
    create_table_artifact(key="restoration-files", table=table, description=f"at most {_ROWS} files, failures first")
    if not summary.good:
        create_markdown_artifact(
            key="restoration-problems", markdown="\n".join(f"- `{line}`" for line in summary.lines()[2:])
        )


def report(archive: Archive, summary: Summary, ended: State[Any]) -> None:
    """Write the report of the morning, and tell where it is: the server, the log, and the webhook if there is one."""
    morning = morning_of(archive, summary, ended.name or "")
    page = write(morning, archive.home)
    create_link_artifact(page.as_uri(), page.name, key="restoration-report", description=summary.lines()[0])
    note("ended", archive, summary.run, state=morning.state, message=ended.message, seconds=summary.seconds)
    tell(morning.destination, morning.state, summary, [f"report: {page}"], get_run_logger().warning)


def _restore(archive: Archive, plan: Plan, runner: TaskRunner[Any]) -> BatchResult:
    pace, total = Pace(), BatchResult()
    tasks = work.batches(work.todo(archive, plan.run), archive.config, pace)

    def submit(names: tuple[str, ...]) -> PrefectFuture[BatchResult]:
        with submitting(archive.config):
            future: PrefectFuture[BatchResult] = runner.submit(
                restore_files, {"archive": archive, "run": plan.run, "names": names}
            )
        return future

    for result in _windowed(submit, tasks, archive.config.window):
        pace.add(result)
        total += result
    return total


def _sharded(archive: Archive, plan: Plan, runs: Runs) -> BatchResult:
    """Restore in runs of their own; what those that crashed have left is for the next round."""
    config = archive.config
    pace, total = Pace(), BatchResult()
    shards = work.batches(work.todo(archive, plan.run), replace(config, **shard_config(config)), pace)
    # Where a shard is done, it is done by the process itself.
    inner = parameters(replace(archive, config=replace(config, shards="")))
    with begun(runs) as begin:

        def submit(names: tuple[str, ...]) -> Shard:
            return begin(config.shards, {**inner, "run": plan.run, "names": list(names)})

        for result in _windowed(submit, shards, config.window):
            pace.add(result)
            total += result
    return total


def _verify(archive: Archive, plan: Plan, runner: TaskRunner[Any]) -> None:
    tasks = work.batches(work.to_verify(archive, plan.run), archive.config, Pace())

    def submit(names: tuple[str, ...]) -> PrefectFuture[int]:
        future: PrefectFuture[int] = runner.submit(verify_files, {"archive": archive, "names": names})
        return future

    deque(_windowed(submit, tasks, archive.config.window), maxlen=0)


def _windowed(
    submit: Callable[[tuple[str, ...]], _Future[T]], tasks: Iterable[tuple[str, ...]], size: int
) -> Iterator[T]:
    """Yield the results of tasks in their order, with no more than ``size`` submitted and not yet waited for."""
    waiting: deque[_Future[T]] = deque()
    for names in tasks:
        waiting.append(submit(names))
        if len(waiting) >= size:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
