"""How far a run is, for Prometheus: served on a port, or written into a file for the textfile collector.

``AUDIORESTORE_METRICS`` says where: ``HOST:PORT``, or a path that ends in ``.prom``. Without it there is nothing.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from audiorestore.errors import ConfigError, DependencyError
from flows.pulse import Listener, Pulse
from flows.settings import Archive

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

VARIABLE = "AUDIORESTORE_METRICS"


def listeners(archive: Archive) -> list[Listener]:
    """Return what is to be told how far a run is, as the environment says.

    Raises:
        ConfigError: the variable says nothing useful, or the port is taken. DependencyError: no prometheus_client.
    """
    place = os.environ.get(VARIABLE, "")
    if not place:
        return []
    try:
        gauges = Gauges(str(archive.destination))
    except ImportError as error:
        raise DependencyError(f"{VARIABLE}: needs prometheus_client: pip install 'audiorestore[metrics]'") from error
    if place.endswith(".prom"):
        from prometheus_client import write_to_textfile

        Path(place).parent.mkdir(parents=True, exist_ok=True)

        def write(pulse: Pulse) -> None:
            gauges(pulse)
            write_to_textfile(place, gauges.registry)  # takes its name when it is whole

        return [write]
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"{VARIABLE}: expected HOST:PORT or a path ending in .prom, found {place!r}")
    _serve(host, int(port)).registry = gauges.registry
    return [gauges]


class Gauges:
    """Numbers of one run."""

    def __init__(self, archive: str) -> None:
        from prometheus_client import CollectorRegistry, Gauge

        self.registry = CollectorRegistry()

        def gauge(name: str, words: str) -> Gauge:
            return Gauge(f"audiorestore_{name}", words, ("archive",), registry=self.registry)

        self._files = Gauge("audiorestore_files", "Files by status.", ("archive", "status"), registry=self.registry)
        self._all = {
            "run": gauge("run", "Number of the run in the ledger."),
            "audio_seconds": gauge("restored_audio_seconds", "Sound restored by the run."),
            "seconds": gauge("run_seconds", "Time since the run began."),
            "share": gauge("share", "Share of the bytes of sources whose files have come to an end."),
            "seconds_left": gauge("seconds_left", "Time left, as far as it can be told."),
        }
        self._archive = archive

    def __call__(self, pulse: Pulse) -> None:
        """Take over the numbers."""
        counts = {name: getattr(pulse, name) for name in ("done", "refused", "failed", "running")}
        counts["pending"] = pulse.files - sum(counts.values())
        for status, count in counts.items():
            self._files.labels(self._archive, status).set(count)
        for name, gauge in self._all.items():
            value = getattr(pulse, name)
            gauge.labels(self._archive).set(float("nan") if value is None else value)


class _Served:
    """What is served on a port: always the latest run of this process."""

    registry: CollectorRegistry | None = None

    def collect(self):  # type: ignore[no-untyped-def]
        """Yield the numbers."""
        if self.registry is not None:
            yield from self.registry.collect()


@lru_cache
def _serve(host: str, port: int) -> _Served:
    from prometheus_client import CollectorRegistry, start_http_server

    outer, served = CollectorRegistry(auto_describe=False), _Served()
    outer.register(served)
    try:
        start_http_server(port, addr=host, registry=outer)
    except OSError as error:
        raise ConfigError(f"{VARIABLE}: expected a free port, found {host}:{port} taken ({error})") from error
    return served
