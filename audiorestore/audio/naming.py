"""What results are called: as their sources, so that no two results, and nothing beside them, are ever called the same.

A name depends on the source's name alone, never on which other files there are:

- what cannot be written in its own format keeps its whole name and gets a suffix: ``a.m4a`` becomes ``a.m4a.flac``;
- a source whose own name is of that form, or of that of a residual, gets its suffix once more: ``a.m4a.flac`` becomes
  ``a.m4a.flac.flac``. So the rule can be inverted, and ``a.m4a`` and ``a.m4a.flac`` are told apart;
- a folder ``quarantine`` at the top becomes ``quarantine_``, since refused results have that one;
- a name too long for what stands beside the result (`record_name`) is cut, and tagged.

One thing does depend on others: where the file system takes two names for one (``A.wav`` and ``a.wav``, or the same
letters composed in another way), both are tagged (`outputs` finds them).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from audiorestore.audio.formats import CONTAINERS

QUARANTINE = "quarantine"
RECORD_SUFFIX = ".restoration.json"
RESIDUAL_SUFFIX = ".residual.wav"
PAGE_SUFFIX = ".report.html"
INDEX = f"index{PAGE_SUFFIX}"
LONGEST_NAME = 255  # bytes, on every common file system

# Suffixes of sound that can be read but not written in the same format, and what the result is called besides.
_ADDED = {
    **dict.fromkeys((".mp1", ".mp2", ".mpga"), ".mp3"),
    **dict.fromkeys(
        (".aac", ".ac3", ".amr", ".ape", ".dsf", ".m4a", ".m4b", ".mka", ".paf", ".tta", ".wma", ".wv"), ".flac"
    ),
    **dict.fromkeys((".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"), ".flac"),
}
# MATLAB files may hold sound, but mostly hold something else: only when they are named.
SOUND_SUFFIXES = (frozenset(CONTAINERS) | frozenset(_ADDED)) - {".mat"}

_LONGEST_RESULT = LONGEST_NAME - len(RECORD_SUFFIX)
_LONGEST_SUFFIX = 16
_TAG_DIGITS = 8


def result_name(source: PurePath) -> PurePath:
    """Return the place of a result below the folder of results, from that of its source below its own."""
    name = _file_name(source.name)
    if len(os.fsencode(name)) > _LONGEST_RESULT:
        name = tagged_name(name, source)
    return PurePath(*_folders(source.parent.parts), name)


def source_folder(result_folder: PurePath) -> PurePath:
    """Return the folder of the sources of a folder of results, both relative; the inverse of `result_name` in that."""
    parts = result_folder.parts
    return PurePath(*_source_folders(parts[1:] if parts[:1] == (QUARANTINE,) else parts))


def tagged_name(name: str, source: PurePath) -> str:
    """Return a file name that no other source's result has: with some digits of the hash of the source's place."""
    suffix = PurePath(name).suffix
    suffix = suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""
    tail = f"~{hashlib.sha256(os.fsencode(source)).hexdigest()[:_TAG_DIGITS]}{suffix}"
    return cut_name(name.removesuffix(suffix), _LONGEST_RESULT - len(os.fsencode(tail))) + tail


def alike(name: str) -> str:
    """Return a form of a name in which all are the same that any file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def folding(folder: Path) -> Callable[[str], str] | None:
    """Find out, by a file, which names the file system of a folder takes for one; return what makes them the same.

    Returns None where every name is one of its own.
    """
    above = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=".audiorestore-", dir=above) as probe:
            Path(probe, "A").touch()
            Path(probe, "\u00e9").touch()
            case, composition = Path(probe, "a").exists(), Path(probe, "e\u0301").exists()
    except OSError:  # what is wrong with the folder is said where a result is written
        return None
    if case:
        return alike
    return (lambda name: unicodedata.normalize("NFC", name)) if composition else None


def cut_name(name: str, longest: int) -> str:
    """Return a name cut to so many bytes, and never within a character."""
    while len(os.fsencode(name)) > longest:
        name = name[:-1]
    return name


def _file_name(name: str) -> str:
    suffix = PurePath(name).suffix
    added = _ADDED.get(suffix.lower()) or (suffix if _is_anothers(name.lower(), suffix.lower()) else "")
    return name + added


def _is_anothers(name: str, suffix: str) -> bool:
    """Tell whether another source's result or residual, or the result of one with fewer suffixes, has this name."""
    if not suffix:
        return False
    stem = name
    while stem.endswith(suffix):
        stem = stem.removesuffix(suffix)
    if _ADDED.get(PurePath(stem).suffix) == suffix:
        return True
    inner = stem.removesuffix(".residual")
    return suffix == ".wav" and inner != stem and PurePath(inner).suffix in SOUND_SUFFIXES


def _folders(parts: Sequence[str]) -> tuple[str, ...]:
    first = parts[0] if parts else ""
    reserved = first.rstrip("_").casefold() == QUARANTINE
    return (f"{first}_", *parts[1:]) if reserved else tuple(parts)


def _source_folders(parts: Sequence[str]) -> tuple[str, ...]:
    first = parts[0] if parts else ""
    reserved = first.endswith("_") and first.rstrip("_").casefold() == QUARANTINE
    return (first[:-1], *parts[1:]) if reserved else tuple(parts)
