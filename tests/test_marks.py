"""The damage map in other programs' forms: nothing of the result is changed, and its own cue points stay."""

from __future__ import annotations

import csv
import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import wavinfo
from typer.testing import CliRunner

from audiorestore.audio.cue import Range, add_cues
from audiorestore.audio.riff import read_layout
from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.damage.damage_map import Damage, DamageMap
from audiorestore.diagnosis.finding import Diagnosis, Finding
from audiorestore.errors import OutputError
from audiorestore.jobs import Job, run_job
from audiorestore.records.marks import labels, marks_of_diagnosis, marks_of_record, plain, table
from audiorestore.records.record import Record, record_path, sha256_of
from audiorestore.restoration.pipeline import RestorationConfig
from tests.conftest import noise

RATE = 16_000
RANGES = [Range(1600, 3201, "clipping, channel 2"), Range(0, 8000, "hum, channel 1")]


def wave(path: Path, chunks: bytes = b"", form: str = "WAV") -> Path:
    soundfile.write(path, noise(1, 8001).numpy().T, RATE, "PCM_24", format=form)
    content = path.read_bytes()
    content += bytes(len(content) % 2) + chunks
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:] if form == "WAV" else content)
    return path


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


OWN = chunk(b"cue ", struct.pack("<III4sIII", 1, 2, 5, b"data", 0, 0, 5)) + chunk(b"iXML", b"<a/>1")
OWN += chunk(b"LIST", b"adtl" + chunk(b"labl", struct.pack("<I", 2) + b"own\0")) + chunk(b"zzzz", b"odd")


@pytest.mark.parametrize("form", ["WAV", "RF64"])
@pytest.mark.parametrize("own", [b"", OWN], ids=["none", "own"])
def test_cue_points_are_added_to_those_that_are_there(tmp_path, form, own):
    path = wave(tmp_path / "a.wav", own, form)
    before, sound = read_layout(path), soundfile.read(path, dtype="int32")[0]
    others = {item.name: path.read_bytes()[item.offset : item.end] for item in before.chunks}
    add_cues(path, RANGES)
    assert (soundfile.read(path, dtype="int32")[0] == sound).all()
    after = read_layout(path)
    assert after.missing in (0, -1)  # the pad byte at the end
    for item in after.chunks:
        if item.key not in (b"cue ", b"LIST", b"ds64"):
            assert path.read_bytes()[item.offset : item.end] == others[item.name]
    assert [item.key for item in before.chunks] == [item.key for item in after.chunks][: len(before.chunks)]
    cues = wavinfo.WavInfoReader(str(path)).cues
    found = {(place, cues.label_and_note(name)[0], cues.range(name)) for name, place in cues.each_cue()}
    expected = {(item.start, item.text, item.end - item.start) for item in RANGES}
    assert found == expected | ({(5, "own", None)} if own else set())


def test_what_is_no_wave_file_or_has_a_broken_cue_chunk_is_left_alone(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(100).numpy(), RATE)
    broken = wave(tmp_path / "a.wav", chunk(b"cue ", struct.pack("<I", 1000)))
    stub = wave(tmp_path / "b.wav", chunk(b"cue ", b"\1\0"))
    for path in (tmp_path / "a.flac", broken, stub):
        before = sha256_of(path)
        with pytest.raises(OutputError, match="expected"):
            add_cues(path, RANGES)
        assert sha256_of(path) == before


@pytest.fixture
def result(tmp_path) -> Path:
    """A result whose record tells of damage."""
    source, made = wave(tmp_path / "source.wav", OWN), tmp_path / "out" / "b" / "tape.wav"
    record = run_job(Job(source, made), RestorationConfig(strength_db=0.0), None)
    damage = (
        Damage("hum", 0, 8001, 0, 1.0),
        Damage("clipping", 1600, 3200, 1, 0.875),
        Damage("dropout", 4000, 4800, 0, 1.0, "filled"),
    )
    replace(record, damage=DamageMap(damage)).write(record_path(made), force=True)
    return made


def test_labels_and_tables_say_what_the_map_says(result):
    record = Record.read(record_path(result))
    assert labels(marks_of_record(record)) == (
        "0.000000\t0.500062\thum, channel 1, confidence 100%\n0.100000\t0.200000\tclipping, channel 2, confidence 88%\n"
        "0.250000\t0.300000\tdropout, channel 1, confidence 100%, filled\n"
    )
    rows = list(csv.DictReader(io.StringIO(table(marks_of_record(record)))))
    assert [(row["kind"], row["channel"], row["start_sample"], row["end_sample"], row["repair"]) for row in rows] == [
        ("hum", "1", "0", "8001", ""),
        ("clipping", "2", "1600", "3200", ""),
        ("dropout", "1", "4000", "4800", "filled"),
    ]


def test_the_command_writes_beside_results_and_never_into_them(result, tmp_path):
    before = sha256_of(result)
    command = ["marks", str(tmp_path / "out")]
    assert CliRunner().invoke(app, command).exit_code == ExitCode.OK
    assert result.with_name("tape.wav.labels.txt").read_text() == labels(
        marks_of_record(Record.read(record_path(result)))
    )
    assert CliRunner().invoke(app, command).exit_code == ExitCode.FAILED
    assert CliRunner().invoke(app, [*command, "--force", "--form", "csv", "--form", "cue"]).exit_code == ExitCode.USAGE
    copies = tmp_path / "marked"
    command += ["--form", "csv", "--form", "cue", "-o", str(copies)]
    assert CliRunner().invoke(app, command).exit_code == ExitCode.OK
    assert {path.relative_to(copies).as_posix() for path in copies.rglob("*.*")} == {
        *("b/tape.wav", "b/tape.wav.damage.csv"),
    }
    assert (soundfile.read(copies / "b" / "tape.wav")[0] == soundfile.read(result)[0]).all()
    assert sha256_of(result) == before
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "out")]).exit_code == ExitCode.OK


def test_a_form_that_a_result_has_not_takes_no_other_form_away(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(1000).numpy(), RATE)
    run_job(Job(tmp_path / "a.flac", tmp_path / "out" / "a.flac"), RestorationConfig(strength_db=0.0), None)
    command = ["marks", str(tmp_path / "out"), "--form", "cue", "--form", "labels", "-o", str(tmp_path / "marked")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == ExitCode.FAILED
    assert "expected a WAV file for cue points, found a file in the format FLAC" in done.stderr
    assert [path.name for path in (tmp_path / "marked").rglob("*.*")] == ["a.flac.labels.txt"]


CLICKS = {"count": 2, "per_minute": 12.0, "positions": [0.5, 2.25]}
FOUND = Diagnosis(
    RATE,
    2,
    10 * RATE,
    findings=(
        Finding("clicks", 0, 10 * RATE, 1, 0.9, 0.3, CLICKS),
        Finding("dead channel", 0, 10 * RATE, 0, 0.4, 1.0, {"level_dbfs": -90.0}),
    ),
)


def test_findings_are_marked_and_every_click_is_a_point():
    lines = labels(marks_of_diagnosis(FOUND)).splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        ["0.000000", "10.000000"],
        ["0.000000", "10.000000"],
        ["0.500000", "0.500000"],
        ["2.250000", "2.250000"],
    ]
    assert "click, channel 2, confidence 90%, denoise" in lines[2]
    assert "not repaired" in lines[0]


def test_json_and_csv_say_the_same():
    marks = marks_of_diagnosis(FOUND, least=0.5)
    rows = list(csv.DictReader(io.StringIO(table(marks))))
    places = json.loads(plain(marks))["marks"]
    assert len(rows) == len(places) == 3
    for row, item in zip(rows, places, strict=True):
        assert (row["kind"], int(row["channel"]), int(row["start_sample"])) == (
            *(item["kind"], item["channel"], item["start_sample"]),
        )
