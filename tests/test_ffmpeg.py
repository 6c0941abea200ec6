import os
import shutil
import stat
import subprocess
import sys

import pytest
import soundfile
import torch

from audiorestore.audio import ffmpeg
from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.errors import DependencyError, InputError
from tests.conftest import noise, tone

MP4 = b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(200)
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg here")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a program called ffmpeg first on the path; returns a function that writes its Python body."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.fspath(folder))

    def install(body):
        program = folder / "ffmpeg"
        program.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return install


def test_without_ffmpeg_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    (tmp_path / "a.m4a").write_bytes(MP4)
    with pytest.raises(DependencyError, match=r"a\.m4a: MP4 files are read through ffmpeg.*install it"):
        FileSource.open(tmp_path / "a.m4a")


def test_the_sound_comes_from_ffmpeg(tmp_path, fake):
    soundfile.write(tmp_path / "sound.wav", noise(1000, 2).numpy(), 44100, "FLOAT")
    fake(f"import shutil; shutil.copy({os.fspath(tmp_path / 'sound.wav')!r}, sys.argv[-1].removeprefix('file:'))")
    (tmp_path / "a.m4a").write_bytes(MP4)
    with FileSource.open(tmp_path / "a.m4a") as source:
        assert (source.sample_rate, source.channels, source.n_samples) == (44100, 2, 1000)
        assert (source.info.container, source.info.subtype) == ("MP4", "OTHER")
        assert torch.equal(source.read(0, 1000), noise(1000, 2).T)


@pytest.mark.parametrize(
    "name", ["-i.m4a", "a;touch b.m4a", "$(x).m4a", "a b.m4a", os.fsdecode(b"\xff.m4a"), "http:x.m4a"]
)
def test_names_are_only_names(tmp_path, fake, name):
    fake(f"import os; open({os.fspath(tmp_path / 'seen')!r}, 'w').write(repr(sys.argv)); sys.exit(1)")
    path = tmp_path / name
    path.write_bytes(MP4)
    with pytest.raises(InputError):
        FileSource.open(path)
    arguments = (tmp_path / "seen").read_text()
    assert repr("file:" + os.fspath(path)) in arguments
    assert "'-f', 'mov', '-i'" in arguments


def test_what_ffmpeg_says_is_passed_on_in_one_line(tmp_path, fake):
    fake("print('first', file=sys.stderr); print('moov atom not found', file=sys.stderr); sys.exit(1)")
    (tmp_path / "a.mp4").write_bytes(MP4)
    with pytest.raises(InputError, match=r"found moov atom not found$"):
        FileSource.open(tmp_path / "a.mp4")


def test_texts_never_reach_ffmpeg(tmp_path, fake):
    fake("raise SystemExit('must not run')")
    (tmp_path / "a.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n" + "text " * 100)
    with pytest.raises(InputError, match="expected a sound file"):
        FileSource.open(tmp_path / "a.mp4")


@pytest.mark.parametrize("head", [b"", b"RIFF....WAVEfmt ", b"fLaC", b"ID3\4", b"text text text!!"])
def test_native_sound_and_text_are_not_recognised(head):
    assert ffmpeg.recognise(head) is None


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "codec", "exact"),
    [
        ("a.m4a", ["-c:a", "alac"], True),
        ("a.m4a", ["-c:a", "aac"], False),
        ("a.mka", ["-c:a", "pcm_s24le"], True),
        (
            "a.mkv",
            ["-f", "lavfi", "-i", "color=size=32x32:rate=5:duration=1", "-c:a", "flac", "-map", "1", "-map", "0"],
            True,
        ),
        ("a.wv", ["-c:a", "wavpack"], True),
    ],
)
def test_real_files(tmp_path, name, codec, exact):
    samples = tone(1, rate=44100, level=0.2)
    soundfile.write(tmp_path / "a.wav", samples.T.numpy(), 44100, "PCM_16")
    kept, _ = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", *codec, tmp_path / name]
    subprocess.run(command, check=True)
    with FileSource.open(tmp_path / name) as source:
        found = source.read(0, source.n_samples)
        with FileWriter(tmp_path / "a.flac", source.info, source_path=source.path) as writer:
            writer.write(found)
    assert "cannot be written" in writer.target.reason
    if exact:
        assert torch.equal(found, torch.from_numpy(kept.T))
    else:
        assert (found[:, 5000:40_000] - samples[:, 5000:40_000]).abs().max() < 0.05


@needs_ffmpeg
def test_a_cut_file_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(200_000).numpy(), 44100)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "aac", tmp_path / "a.m4a"], check=True)
    content = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        FileSource.open(tmp_path / "a.m4a")
