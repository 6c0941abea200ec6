"""``audiorestore package``, and what it shares with other commands that make packages of restored files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import messages, print_json
from audiorestore.cli.options import ForceOption, JsonOption
from audiorestore.errors import ConfigError, InputError, printable

if TYPE_CHECKING:
    from audiorestore.audio.urls import Url
    from audiorestore.records.bag import Bag
    from audiorestore.records.package import BagProfile

PackageOption = Annotated[
    str | None, typer.Option(help="bagit: also make a bag of the results, OUT.bag.", metavar="KIND")
]
ProfileOption = Annotated[str | None, typer.Option(help="Shipped bag profile, or YAML or JSON file.", metavar="NAME")]
BagInfoOption = Annotated[
    list[str] | None, typer.Option(help="A field of bag-info.txt, as 'Label: value'; repeat for more.", metavar="FIELD")
]


@dataclass(frozen=True)
class Packaging:
    """A bag that is to be made of the results when all is done."""

    out: Path
    profile: BagProfile
    info: dict[str, list[str]]
    force: bool

    def make(self, results: Sequence[Path], *, failed: int) -> None:
        """Make the bag and say so; none is made if files failed, as it would look whole.

        Raises:
            InputError: a result is not what its record says. OutputError: the bag cannot be written.
        """
        from audiorestore.records.package import bag_path, package_bag

        if failed:
            messages().print(f"no bag: {failed} files failed")
            return
        folder = self.out if self.out.is_dir() else self.out.parent
        made = package_bag(
            folder, bag_path(self.out), results=results, profile=self.profile, info=self.info, force=self.force
        )
        _say(made)


def package(
    place: Annotated[
        str, typer.Argument(help="Folder or URL of restored files, as a batch leaves it.", metavar="FOLDER")
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bag; without it, FOLDER.bag.", metavar="BAG")
    ] = None,
    profile: ProfileOption = None,
    bag_info: BagInfoOption = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also where files of the batch failed.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make one bag (BagIt) of all restored files below a folder, with a PREMIS document for each.

    What the quality plan refused stays out. Every file is compared with its record on the way.
    """
    from audiorestore.audio.urls import Url, is_url
    from audiorestore.records.ledger import unfinished as count_unfinished
    from audiorestore.records.package import package_bag

    if is_url(place):
        chosen, info = _asked(profile, bag_info or [])
        _tell(_package_url(Url.parse(place), out, chosen, info, unfinished=unfinished, force=force), as_json=as_json)
        return
    folder = Path(place)
    if not folder.is_dir():
        raise InputError(folder, expected="a folder", found="a file" if folder.exists() else "nothing")
    chosen, info = _asked(profile, bag_info or [])
    if not unfinished and (left := count_unfinished(folder)):
        raise InputError(folder, expected="a finished batch (or --unfinished)", found=f"{left} files without a result")
    _tell(package_bag(folder, out, profile=chosen, info=info, force=force), as_json=as_json)


def _package_url(
    url: Url, out: Path | None, profile: BagProfile, info: dict[str, list[str]], *, unfinished: bool, force: bool
) -> Bag:
    """Make a bag here of results at a URL, which are fetched one at a time."""
    from audiorestore.distant import results_at
    from audiorestore.records.home import find_home
    from audiorestore.records.ledger import unfinished as count_unfinished
    from audiorestore.records.package import package_bag

    if out is None:
        raise ConfigError("package: expected --output for results at a URL, found none")
    if not unfinished and (left := count_unfinished(find_home(url.text))):
        raise InputError(
            url.text, expected="a finished batch (or --unfinished)", found=f"{left} files without a result"
        )
    with tempfile.TemporaryDirectory(prefix="audiorestore-") as name:
        folder = Path(name)
        return package_bag(folder, out, results=results_at(url, folder), profile=profile, info=info, force=force)


def _tell(made: Bag, *, as_json: bool) -> None:
    if as_json:
        print_json({"bag": made.path, "files": made.n_files, "bytes": made.size})
    else:
        _say(made)


def packaging(
    kind: str | None, profile: str | None, fields: Sequence[str], out: Path, *, force: bool
) -> Packaging | None:
    """Return what is asked for, checked before any work is done; None if no package is.

    Raises:
        ConfigError: no such kind or profile, or fields that are not what the profile asks for.
        OutputError: the bag's name is taken.
    """
    if kind is None:
        if profile is not None or fields:
            raise ConfigError("options: expected --package with --profile and --bag-info, found none")
        return None
    if kind != "bagit":
        raise ConfigError(f"package: expected bagit, found {kind!r}")
    from audiorestore.records.bag import check_free, clear_dead
    from audiorestore.records.package import bag_path

    chosen, info = _asked(profile, fields)
    clear_dead(bag_path(out))
    check_free(bag_path(out), force=force)
    return Packaging(out, chosen, info, force)


def _asked(profile: str | None, fields: Sequence[str]) -> tuple[BagProfile, dict[str, list[str]]]:
    """Return profile and fields, which fit each other."""
    from audiorestore.records.package import DEFAULT_PROFILE, load_profile

    chosen, info = load_profile(profile or DEFAULT_PROFILE), parse_fields(fields)
    chosen.check(info)
    return chosen, info


def _say(made: Bag) -> None:
    messages().print(f"{printable(str(made.path))}: {made.n_files} files, {made.size} bytes", markup=False)


def parse_fields(fields: Sequence[str]) -> dict[str, list[str]]:
    """Return fields as values by label, from lines as in ``bag-info.txt``.

    Raises:
        ConfigError: a line is no field.
    """
    info: dict[str, list[str]] = {}
    for line in fields:
        label, colon, value = line.partition(":")
        if not colon or not label.strip() or not value.strip():
            raise ConfigError(f"bag-info: expected 'Label: value', found {line!r}")
        info.setdefault(label.strip(), []).append(value.strip())
    return info
