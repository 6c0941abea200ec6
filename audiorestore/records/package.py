"""Restored files, their records and all that belongs to them in one bag, with a PREMIS document for each.

NAME.bag/
  bagit.txt  bag-info.txt  manifest-sha256.txt  manifest-sha512.txt  tagmanifest-*.txt
  data/...                      results, records, residuals and pictures, in their folders
  metadata/premis/....xml       what was done to each, as PREMIS 3

The sources are not in it: they stay where they are, and are named by their hashes.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from audiorestore import __version__
from audiorestore.audio.naming import QUARANTINE
from audiorestore.config import find_config, from_mapping, read_yaml
from audiorestore.errors import ConfigError, InputError, OutputError, printable
from audiorestore.records.bag import ALGORITHMS, VERSION, Bag
from audiorestore.records.premis import Packed, premis
from audiorestore.records.record import FileState, Record, page_path, picture_path, record_path, residual_path
from audiorestore.records.verify import find

DEFAULT_PROFILE = "default"
SUFFIX = ".bag"

Info = Mapping[str, Sequence[str]]

_MANIFESTS = ("sha256", "sha512")
_ESCAPED = re.compile("[\udc80-\udcff]|=3D|=[89A-F][0-9A-F]")
_TAG_FILE = "metadata/premis/{}.premis.xml"
_COMPUTED = ("Bagging-Date", "Bag-Software-Agent", "BagIt-Profile-Identifier", "Payload-Oxum", "Bag-Size")


@dataclass(frozen=True)
class TagRule:
    """What a profile asks of one field of ``bag-info.txt``: a value at all, one of some, at most one."""

    required: bool = False
    values: tuple[str, ...] = ()
    repeatable: bool = True


@dataclass(frozen=True)
class BagProfile:
    """What an institution asks of a bag.

    Args:
        name: where it was read from.
        identifier: its address, for ``BagIt-Profile-Identifier``; empty if it has none.
        tags: rules for ``bag-info.txt``, by label.
        manifests: algorithms of the manifests.
    """

    name: str = DEFAULT_PROFILE
    identifier: str = ""
    tags: Mapping[str, TagRule] = field(default_factory=dict)
    manifests: tuple[str, ...] = _MANIFESTS

    def check(self, info: Info) -> None:
        """Find out what ``bag-info.txt`` lacks; best done before the work.

        Raises:
            ConfigError: a field is missing, repeated, computed by the program, or none of its values.
        """
        for label in info:
            if label in _COMPUTED:
                raise ConfigError(f"bag-info: expected fields that are not computed, found {label}")
        for label, rule in self.tags.items():
            given = info.get(label, ())
            if rule.required and not given and label not in _COMPUTED:
                raise ConfigError(f"bag-info: expected {label}, as profile {self.name} requires, found none")
            if len(given) > 1 and not rule.repeatable:
                raise ConfigError(f"bag-info: {label}: expected one value, found {len(given)}")
            wrong = [value for value in given if rule.values and value not in rule.values]
            if wrong:
                raise ConfigError(f"bag-info: {label}: expected one of {', '.join(rule.values)}, found {wrong[0]}")
        if "BagIt-Profile-Identifier" in self.tags and not self.identifier:
            raise ConfigError(f"{self.name}: expected BagIt-Profile-Info with BagIt-Profile-Identifier, found none")


def load_profile(name: str = DEFAULT_PROFILE) -> BagProfile:
    """Return a profile: a shipped one by its name, or a YAML or JSON file in the terms of BagIt Profiles 1.4.

    Raises:
        ConfigError: no such profile, one with unknown keys, or one that asks for what is not done here: bags in
            one file, fetched payloads, other tag files or algorithms.
    """
    given = Path(name)
    path = given if given.suffix == ".json" and given.is_file() else find_config("package", name)
    values = read_yaml(path)  # JSON is YAML
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise ConfigError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}")
    _refuse_what_is_not_done(values, path)
    about = values.get("BagIt-Profile-Info") or {}
    return BagProfile(
        name=str(path),
        identifier=str(about.get("BagIt-Profile-Identifier", "")),
        tags={
            str(label): _rule(rule, where=f"{path}: {label}") for label, rule in (values.get("Bag-Info") or {}).items()
        },
        manifests=_manifests(values, path),
    )


def bag_path(destination: Path) -> Path:
    """Return where the bag of a folder, or of one result, stands: beside it."""
    whole = destination.resolve()
    return whole.with_name(whole.name + SUFFIX)


def package_bag(
    destination: Path,
    bag: Path | None = None,
    *,
    results: Iterable[Path] | None = None,
    profile: BagProfile | None = None,
    info: Info | None = None,
    force: bool = False,
) -> Bag:
    """Make a bag of restored files with all that belongs to them; it appears whole or not at all.

    Every result and residual is compared with its record while it is copied.

    Args:
        destination: the folder that holds the results; places in the bag are relative to it.
        bag: the bag's folder; without it, ``DESTINATION.bag`` beside the destination.
        results: which results, each needed until the next is asked for; without it, all below the destination, but
            for what is in quarantine.
        profile: what is asked of the bag; without it, the shipped ``default``.
        info: fields of ``bag-info.txt`` beyond those that are computed.
        force: replace an existing bag.

    Returns:
        The finished bag: its path, number of files and size.

    Raises:
        ConfigError: ``info`` is not what the profile asks for.
        InputError: there is no result, or a file is missing or not what its record says.
        OutputError: the bag cannot be written, or would lie among what it is to hold.
    """
    profile, info = profile or load_profile(), info or {}
    profile.check(info)
    now = datetime.now(UTC)
    place = bag or bag_path(destination)
    if results is None and place.resolve().is_relative_to(destination.resolve()):
        raise OutputError(place, expected="a place outside the folder of the results", found="one inside")
    with Bag(place, algorithms=profile.manifests, force=force) as made:
        for result in _accepted(destination) if results is None else results:
            name = _in_utf8(result.relative_to(destination))
            _add(made, result, name, now, organisation=_first(info, "Source-Organization"))
        if made.n_files == 0:
            raise InputError(destination, expected="restored files with their records", found="none")
        made.finish(_bag_info(profile, info, now))
    return made


def _accepted(destination: Path) -> Iterator[Path]:
    return (item.result for item in find([destination]) if item.below.parts[:1] != (QUARANTINE,))


def _in_utf8(place: PurePath) -> PurePath:
    """Return a place that manifests can name: bytes that are no UTF-8 as ``=E9``.

    In such names, and in those that look like them, the equals sign is ``=3D``; so no two places become one.
    """
    text = os.fsencode(place).decode("utf-8", "surrogateescape")
    if not _ESCAPED.search(text):
        return PurePath(text)
    signs = (
        f"={ord(sign) - 0xDC00:02X}" if 0xDC80 <= ord(sign) <= 0xDCFF else sign for sign in text.replace("=", "=3D")
    )
    return PurePath("".join(signs))


def _add(bag: Bag, result: Path, place: PurePath, now: datetime, *, organisation: str) -> None:
    """Add a result with its record, residual, picture and page, and the PREMIS document about them."""
    record = Record.read(record_path(result))
    packed = _copy(bag, result, place, record.result)
    bag.add(record_path(result), record_path(place).as_posix())
    residual = None
    if record.residual is not None:
        residual = _copy(bag, residual_path(result), residual_path(place), record.residual)
    for drawn in (picture_path(result), page_path(result)):
        if drawn.is_file():
            bag.add(drawn, place.with_name(drawn.name).as_posix())
    document = premis(record, result=packed, residual=residual, packed_at=now, organisation=organisation)
    bag.tag(_TAG_FILE.format(place.as_posix()), document)


def _copy(bag: Bag, path: Path, place: PurePath, state: FileState) -> Packed:
    digests = bag.add(path, place.as_posix())
    found = digests.get("sha256")
    if found != state.sha256:
        raise InputError(path, expected=f"sha256 {state.sha256}, as its record says", found=str(found))
    return Packed(f"data/{place.as_posix()}", digests)


def _bag_info(profile: BagProfile, info: Info, now: datetime) -> list[tuple[str, str]]:
    fields = [(label, value) for label, values in info.items() for value in values]
    fields.append(("Bagging-Date", now.date().isoformat()))
    fields.append(("Bag-Software-Agent", f"audiorestore {__version__}"))
    if profile.identifier:
        fields.append(("BagIt-Profile-Identifier", profile.identifier))
    return fields


def _first(info: Info, label: str) -> str:
    return next(iter(info.get(label, ())), "")


_KEYS = frozenset(
    {
        *("BagIt-Profile-Info", "Bag-Info", "Accept-BagIt-Version", "Data-Empty"),
        *("Manifests-Required", "Manifests-Allowed", "Tag-Manifests-Required", "Tag-Manifests-Allowed"),
        *("Allow-Fetch.txt", "Fetch.txt-Required", "Serialization", "Accept-Serialization"),
        *("Tag-Files-Required", "Tag-Files-Allowed", "Payload-Files-Required", "Payload-Files-Allowed"),
    }
)


def _rule(values: Any, *, where: str) -> TagRule:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping, found {values!r}")
    known = {key: value for key, value in values.items() if key not in ("description", "recommended", "help")}
    return from_mapping(TagRule, known, where=where)


def _manifests(values: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return the algorithms that are required, and ours where they are allowed; the same ones for both kinds."""
    chosen = [*_strings(values, "Manifests-Required", path), *_strings(values, "Tag-Manifests-Required", path)]
    chosen += [name for name in _MANIFESTS if name not in chosen]
    for key in ("Manifests-Allowed", "Tag-Manifests-Allowed"):
        allowed = _strings(values, key, path)
        chosen = [name for name in chosen if not allowed or name in allowed]
    strange = [name for name in chosen if name not in ALGORITHMS]
    if strange or "sha256" not in chosen:
        found = strange[0] if strange else "a profile without it"
        raise ConfigError(f"{path}: expected manifests by sha256, and others by {', '.join(ALGORITHMS)}, found {found}")
    return tuple(dict.fromkeys(chosen))


def _refuse_what_is_not_done(values: Mapping[str, Any], path: Path) -> None:
    versions = _strings(values, "Accept-BagIt-Version", path)
    if versions and VERSION not in versions:
        raise ConfigError(f"{path}: expected BagIt {VERSION} to be accepted, found {', '.join(versions)}")
    if values.get("Serialization") == "required":
        raise ConfigError(f"{path}: expected a profile that takes a bag as a folder, found Serialization: required")
    for key in ("Fetch.txt-Required", "Data-Empty"):
        if values.get(key):
            raise ConfigError(f"{path}: expected a profile for bags with a payload, found {key}: true")
    for key in ("Tag-Files-Required", "Payload-Files-Required"):
        if required := [name for name in _strings(values, key, path) if name not in ("bagit.txt", "bag-info.txt")]:
            raise ConfigError(f"{path}: expected no files that are not made here, found {key}: {required[0]}")
    allowed = _strings(values, "Tag-Files-Allowed", path)
    if allowed and not any(fnmatch.fnmatch(_TAG_FILE.format("a.wav"), pattern) for pattern in allowed):
        raise ConfigError(f"{path}: expected {_TAG_FILE.format('*')} in Tag-Files-Allowed, found {', '.join(allowed)}")


def _strings(values: Mapping[str, Any], key: str, path: Path) -> list[str]:
    found = values.get(key) or []
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigError(f"{path}: {key}: expected a list of words, found {printable(str(found))}")
    return found
