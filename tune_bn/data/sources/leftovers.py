"""What other programs leave beside images, known by its name alone: thumbnails, indexes, recycle bins, half a download.

Taken for images, thumbnails of training images validate and test. The lists are as short as they can be: a name that a
class or an image of a data set may have is not on them.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase, translate

from tune_bn.errors import DataError, listed

FOLDERS = (
    # Everything hidden: .git, .ipynb_checkpoints, .Trash-1000, .Spotlight-V100, .fseventsd, .TemporaryItems, .snapshot,
    # QNAP's .@__thumb, .dropbox.cache, Syncthing's .stversions, .picasaoriginals, .thumbnails.
    ".*",
    # Synology DSM: thumbnails and indexes; recycle bin, snapshots and temporary files of a shared folder.
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@tmp",
    "@sharebin",
    # QNAP QTS: recycle bins, snapshots, media in other formats.
    "@Recycle",
    "Network Recycle Bin [0-9]",
    "@Recently-Snapshot",
    "@Transcode",
    # NetApp: snapshots as Windows sees them.
    "~snapshot",
    # Windows: recycle bin, indexes, what chkdsk found.
    "$RECYCLE.BIN",
    "System Volume Information",
    "found.[0-9][0-9][0-9]",
    # fsck.
    "lost+found",
    # macOS: in archives, and on servers; netatalk writes a leading dot as :2e.
    "__MACOSX",
    "Network Trash Folder",
    "Temporary Items",
    "TheVolumeSettingsFolder",
    ":2e*",
    # Microsoft FrontPage, which keeps a second file for each image; GoodSync; Python.
    "_vti_*",
    "_gsdata_",
    "__pycache__",
)

FILES = (
    # macOS, and every folder that it opened on another file system: AppleDouble, Finder.
    "._*",
    ".*",
    ":2e*",
    "Icon\r",
    "Icon\uf00d",
    # Windows: thumbnails, looks of a folder, links, where a file was downloaded from (as WSL shows it).
    "Thumbs.db*",
    "ehthumbs*.db",
    "thumbcache_*.db",
    "desktop.ini",
    "*.lnk",
    "*.url",
    "*:Zone.Identifier*",
    # Synology DSM beside a file: its streams and resource fork, as an SMB client or an archive shows them.
    "*@SynoEAStream",
    "*@SynoResource",
    # Image browsers and raw converters: Zoner, Picasa, Paint Shop Pro, ACDSee; sidecars of Adobe, Apple, RawTherapee
    # and DxO; thumbnails that cameras write.
    "ZbThumbnail.info",
    "Picasa.ini",
    "*.jbf",
    "descript.ion",
    "*.xmp",
    "*.aae",
    "*.pp3",
    "*.dop",
    "*.thm",
    # Not yet, or not longer: browsers, wget, WinSCP, BitTorrent, Resilio, Syncthing, SyncToy, editors, office programs.
    "*.crdownload",
    "*.opdownload",
    "*.download",
    "*.part",
    "*.partial",
    "*.filepart",
    "*.aria2",
    "*.!ut",
    "*.!qb",
    "*.!sync",
    "*.bts",
    "*.tmp",
    "*.swp",
    "~syncthing~*",
    "SyncToy_*.dat",
    "*~",
    "~$*",
    "*.bak",
    # Second copies of an image after a conflict: Dropbox, Nextcloud, Syncthing, ownCloud.
    "*(*conflicted copy*)*",
    "*.sync-conflict-*",
    "*_conflict-[0-9]*",
)

TEXTS = frozenset(
    {
        *("txt", "md", "rst", "pdf", "html", "htm", "log", "csv", "tsv"),
        *("xml", "json", "jsonl", "yaml", "yml", "md5", "sha1", "sha256"),
    }
)
"""Endings of annotations and notes. Whatever else is no image is refused: a photograph in a camera's own format, a film
or an array is data, which may not be missing in silence."""

_MOST_COUNTED = 100_000
"""Files in folders that are passed over; a folder of snapshots may hold all files of a server many times."""


def _matcher(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(translate(pattern.casefold()) for pattern in patterns))


_FOLDERS, _FILES = _matcher(FOLDERS), _matcher(FILES)
_PLAIN = re.compile(r"[0-9a-z_]+\.(?:jpe?g|png|bmp|gif|webp|tiff?)")
"""Names that no pattern of files matches: nearly all there are, told apart in a tenth of the time."""


def folder_label(name: str) -> str | None:
    """What a folder is called among those passed over; None where it counts."""
    return name if _FOLDERS.match(name.casefold()) else None


def file_label(name: str) -> str | None:
    """What a file is called among those passed over; None where it counts.

    Raises:
        DataError: it stands for an image that iCloud has not downloaded.
    """
    folded = name.casefold()
    if _PLAIN.fullmatch(folded):
        return None
    if folded.startswith(".") and folded.endswith(".icloud"):
        raise DataError(f"{name}: stands for an image that iCloud has not downloaded; accepted: the image itself")
    if _FILES.match(folded):
        pattern = next(pattern for pattern in FILES if fnmatchcase(folded, pattern.casefold()))
        return repr(name)[1:-1] if pattern == ".*" or "*" not in pattern else pattern
    ending = os.path.splitext(folded)[1][1:]
    return f"*.{ending}" if ending in TEXTS else None


@dataclass
class PassedOver:
    """What was passed over: paths of folders by their names, numbers of files by their labels."""

    folders: dict[str, list[str]] = field(default_factory=dict)
    files: Counter[str] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        return bool(self.folders or self.files)

    def folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether this folder is passed over; if so it is counted."""
        label = folder_label(entry.name)
        if label is not None:
            self.folders.setdefault(label, []).append(entry.path)
        return label is not None

    def file(self, entry: os.DirEntry[str]) -> bool:
        """Whether this file is passed over; if so it is counted. Raises what :func:`file_label` raises."""
        try:
            label = file_label(entry.name)
        except DataError as error:
            raise DataError(f"{os.path.dirname(entry.path)}/{error}") from None
        if label is not None:
            self.files[label] += 1
        return label is not None

    def words(self) -> str:
        """All of it in one line: how many files, in how many folders, which names."""
        parts = []
        if self.folders:
            places = [path for paths in self.folders.values() for path in paths]
            inside, whole = _count_files(places)
            numbers = Counter({name: len(paths) for name, paths in self.folders.items()})
            folders = f"{len(places):,} folder{'s' * (len(places) != 1)} ({_listed(numbers)})"
            parts.append(f"{'' if whole else 'more than '}{_files(inside)} in {folders}")
        if self.files:
            parts.append(f"{_files(self.files.total())} ({_listed(self.files)})")
        return " and ".join(parts)


def same_name(name: str) -> str:
    """The name in Unicode's form NFC: macOS writes the same letters in another form than other systems."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _listed(numbers: Counter[str]) -> str:
    most = [f"{name} {count:,}" for name, count in sorted(numbers.items(), key=lambda item: (-item[1], item[0]))]
    return listed(most, limit=6) + (" names" if len(most) > 6 else "")


def _count_files(folders: Iterable[str]) -> tuple[int, bool]:
    """How many files lie in these folders, and whether that is all of them."""
    count = 0
    for folder in folders:
        for _, _, names in os.walk(folder):
            count += len(names)
            if count >= _MOST_COUNTED:
                return count, False
    return count, True
