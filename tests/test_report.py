"""The page of a result holds what there is to see and hear, takes nothing from elsewhere, and plays."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.audio.naming import INDEX
from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.record import Record, page_path, record_path, residual_path
from audiorestore.report.html import write_html
from audiorestore.report.index import Entry, write_index
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests import browser
from tests.conftest import noise, tone

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))
HOSTILE = "<img src=x onerror=alert(1)>&'\"{{7*7}}.wav"


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint: Checkpoint) -> Restorer:
    return Restorer(replace(tiny_checkpoint, sha256="0" * 64), device="cpu", config=CONFIG.chunks)


def restored(folder: Path, restorer: Restorer, name: str = "tape.wav", seconds: float = 3.0) -> Path:
    """Restore a recording in ``folder/in`` to ``folder/out``, with its residual."""
    for place in ("in", "out"):
        (folder / place).mkdir(exist_ok=True)
    sound = tone(seconds, rate=RATE) + noise(2, round(seconds * RATE), level=0.02)
    soundfile.write(folder / "in" / name, sound.T.numpy(), RATE)
    result = folder / "out" / name
    run_job(Job(folder / "in" / name, result, residual_path(result)), CONFIG, restorer)
    return result


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def script(page: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]*" id="{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


def test_a_page_is_written_beside_the_result_and_forbids_the_network(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer)
    done = run(result)
    assert done.exit_code == ExitCode.OK, done.output
    assert page_path(result) == tmp_path / "out" / "tape.wav.report.html"
    page = page_path(result).read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = dict(rule.split(maxsplit=1) for rule in policy[1].split("; "))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    assert all(rules[name].startswith("'sha256-") for name in ("style-src", "script-src"))
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)|https?://(?!www\.w3\.org)""", page)
    data = json.loads(script(page, "data"))
    assert data["seconds"] == pytest.approx(3.0)
    assert data["pieces"][0]["start"] == 0
    assert data["pieces"][-1]["end"] == pytest.approx(3.0)


def test_names_and_notes_are_never_markup(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer, HOSTILE.replace("/", ""))
    noted = CliRunner().invoke(app, ["review", str(result), "reject", "--by", "<b>x", "--note", "</script><i>"])
    assert noted.exit_code == ExitCode.OK, noted.output
    assert run(tmp_path / "out").exit_code == ExitCode.OK
    for path in (page_path(result), tmp_path / "out" / "index.report.html"):
        page = path.read_text()
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "{{7*7}}" in page
        assert not any(tag in page for tag in ("<img", "<b>x", "</script><i>"))
        assert page.count("</script>") == page.count("<script")


def test_a_folder_gets_an_index_with_a_link_to_every_page(tmp_path: Path, restorer: Restorer) -> None:
    names = ["a.wav", "b c.wav", "ü#?.wav"]
    for name in names:
        restored(tmp_path, restorer, name, 1.0)
    done = run(tmp_path / "out", "--json")
    index = tmp_path / "out" / "index.report.html"
    assert json.loads(done.stdout)["pages"][-1] == str(index)
    links = re.findall(r'href="([^"#][^"]*)"', index.read_text())
    assert links == ["a.wav.report.html", "b%20c.wav.report.html", "%C3%BC%23%3F.wav.report.html"]
    assert all(page_path(tmp_path / "out" / name).is_file() for name in names)
    # Ours are replaced, others are not.
    assert run(tmp_path / "out").exit_code == ExitCode.OK
    page_path(tmp_path / "out" / "a.wav").write_text("notes")
    assert run(tmp_path / "out" / "a.wav").exit_code == ExitCode.FAILED
    assert page_path(tmp_path / "out" / "a.wav").read_text() == "notes"


def test_a_long_recording_keeps_to_the_size(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer, seconds=16)
    sizes = {}
    for size in (2, 40):
        assert run(result, "--size", size).exit_code == ExitCode.OK
        sizes[size] = page_path(result).stat().st_size
    assert sizes[2] <= 2e6 < sizes[40] <= 40e6


def test_without_the_source_it_is_result_and_residual(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer)
    run(result)
    before = script(page_path(result).read_text(), "data")
    (tmp_path / "in" / "tape.wav").unlink()
    assert run(result).exit_code == ExitCode.OK
    assert script(page_path(result).read_text(), "data") == before
    residual_path(result).unlink()
    done = run(result)
    assert done.exit_code == ExitCode.FAILED
    assert str(tmp_path / "in" / "tape.wav") in done.stderr


def test_another_recording_is_not_shown_as_the_source(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer)
    soundfile.write(tmp_path / "in" / "tape.wav", noise(2, RATE).T.numpy(), RATE)
    done = run(result)
    assert done.exit_code == ExitCode.FAILED
    assert "48000 samples, found 16000 Hz, 2 channels, 16000 samples" in done.stderr
    assert not page_path(result).exists()
    assert Record.read(record_path(result)).source.path == str(tmp_path / "in" / "tape.wav")


def test_restore_writes_pages_beside_its_results(tmp_path: Path) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("a.wav", "b/c.wav"):
        soundfile.write(tmp_path / "in" / name, tone(1.0, rate=RATE)[0].numpy(), RATE)
    command = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--no-denoise", "--report"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == ExitCode.OK, done.output
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.report.html"))
    assert found == ["a.wav.report.html", "b/c.wav.report.html", INDEX]
    index = (tmp_path / "out" / INDEX).read_text()
    assert re.findall(r'href="([^"#][^"]*)"', index) == found[:2]
    # Another file of that name stays, and costs the page, not the result.
    other = tmp_path / "new" / "a.wav.report.html"
    other.parent.mkdir()
    other.write_text("notes")
    command[1:4] = [str(tmp_path / "in" / "a.wav"), "-o", str(other.with_name("a.wav"))]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == ExitCode.FAILED
    assert "restored, but without page or picture" in done.stdout
    assert other.read_text() == "notes"
    assert record_path(other.with_name("a.wav")).is_file()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")
def test_in_a_browser_it_plays_and_switches_at_the_same_place(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer, seconds=10)
    assert run(result).exit_code == ExitCode.OK
    with browser.opened(page_path(result), tmp_path / "profile") as page:
        page.evaluate("{ globalThis.player = audiorestore.player; document.getElementById('play').click() }")
        page.wait("player.playing && player.position > 0.3")
        for lane in ("before", "removed", "after"):
            old = page.evaluate("player.position")
            clock = time.monotonic()
            page.evaluate(f"document.querySelector('button[data-lane={lane}]').click()")
            heard = "Object.keys(player.levels()).filter(lane => player.levels()[lane] > 0.01).join()"
            page.wait(f"{heard} === '{lane}'")
            new = page.evaluate("player.position")
            assert page.evaluate("player.playing")
            assert old < new < old + time.monotonic() - clock + 0.1
            assert page.evaluate("document.querySelector('.lanes button[aria-pressed=true]').dataset.lane") == lane
        page.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'a', bubbles: true}))")
        assert page.evaluate("player.lane") == "before"
        page.evaluate("document.getElementById('play').click()")
        place = page.evaluate("player.position")
        assert not page.evaluate("player.playing")
        page.evaluate("document.querySelector('button[data-lane=after]').click()")
        assert page.evaluate("player.position") == place
        assert page.problems == []
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")
def test_in_a_browser_both_versions_are_as_loud_and_keys_do_all(tmp_path: Path, restorer: Restorer) -> None:
    result = restored(tmp_path, restorer, seconds=10)
    path = record_path(result)
    record = Record.read(path)
    measures = {**record.measures, "after": {**record.measures["after"]}}
    measures["after"]["integrated_lufs"] = measures["before"]["integrated_lufs"] - 6.0
    replace(record, measures=measures).write(path, force=True)
    assert run(result).exit_code == ExitCode.OK
    with browser.opened(page_path(result), tmp_path / "profile") as page:
        page.evaluate("globalThis.player = audiorestore.player")

        def press(key: str, target: str = "document.body") -> None:
            page.evaluate(f"{target}.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))")

        press(" ")
        page.wait("player.playing && player.position > 0.1")
        press("a")
        page.wait("Math.abs(player.levels().before - 10 ** (-6 / 20)) < 1e-3")  # the louder one is turned down
        press("b")
        page.wait("Math.abs(player.levels().after - 1) < 1e-3 && player.levels().before < 1e-3")
        page.evaluate("document.getElementById('match').click()")
        press("a")
        page.wait("Math.abs(player.levels().before - 1) < 1e-3")
        press("ArrowRight")
        page.wait("player.playing && player.position > 5")
        press(" ")
        assert not page.evaluate("player.playing")
        press("n")
        page.wait("player.playing && player.window !== null")
        assert page.evaluate("document.querySelectorAll('.window[aria-current=true]').length") == 1
        assert page.evaluate("audiorestore.view.end - audiorestore.view.start") < 10
        press("0")
        assert page.evaluate("audiorestore.view.end - audiorestore.view.start") == pytest.approx(10)
        assert page.problems == []


@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")
def test_in_a_browser_sound_goes_on_from_preview_to_full_quality(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audiorestore.report.windows.SECONDS", 1.5)
    result = restored(tmp_path, restorer, seconds=24)
    assert run(result, "--size", 3).exit_code == ExitCode.OK
    data = json.loads(script(page_path(result).read_text(), "data"))
    clips = [data["clips"][piece["clip"]]["full"] for piece in data["pieces"]]
    edge = next(index for index in range(1, len(clips)) if clips[index] != clips[index - 1])
    place = data["pieces"][edge]["start"]
    with browser.opened(page_path(result), tmp_path / "profile") as page:
        page.evaluate(f"{{ globalThis.player = audiorestore.player; player.play({place - 0.3}) }}")
        page.wait(f"player.playing && player.position > {place + 0.2}")
        assert page.evaluate("player.sources.size") >= 3
        shown = page.evaluate("document.getElementById('quality').textContent")
        assert shown == ("full quality" if clips[edge] else "preview quality")
        assert page.problems == []


@pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")
def test_in_a_browser_the_index_is_searched_and_sorted(tmp_path: Path) -> None:
    entries = [Entry(f"{name}.wav", "done", measures={"before": {"seconds": seconds}}) for name, seconds in
               (("a", 9.0), ("b", 100.0), ("c", 20.0))]  # fmt: skip
    write_index(entries, tmp_path / INDEX, title="run")
    rows = "[...document.querySelectorAll('#files tbody tr')].filter(row => !row.hidden)"
    names = f"{rows}.map(row => row.cells[0].innerText[0]).join('')"
    with browser.opened(tmp_path / INDEX, tmp_path / "profile") as page:
        page.evaluate("document.querySelectorAll('#files th button')[3].click()")
        assert page.evaluate(names) == "acb"
        page.evaluate("document.querySelectorAll('#files th button')[3].click()")
        assert page.evaluate(names) == "bca"
        page.evaluate("{ const box = document.getElementById('search'); box.value = 'C.wav';"
                      "box.dispatchEvent(new Event('input')) }")  # fmt: skip
        assert page.evaluate(names) == "c"
        assert page.problems == []


def test_halves_of_characters_in_a_record_are_escaped_on_its_page(tmp_path: Path) -> None:
    write_html(tmp_path / "page.html", "torch \ud800 2.0", force=False)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "torch \\ud800 2.0"
