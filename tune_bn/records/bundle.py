"""A study in one file that others can check: ``tune_bn bundle`` writes it, ``tune_bn verify out.zip`` reads it.

A bundle is a ZIP archive of the study's own files and of what it was made with. ``MANIFEST.json`` names every member
with its size and SHA-256. A bundle may come from anywhere, so nothing is read before names and sizes are found to be
harmless, and nothing is believed before its hash fits. What a manifest cannot show is who wrote it: to prove when, the
hash of the bundle is published elsewhere. Only the standard library is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tune_bn.errors import StudyError, first_line
from tune_bn.records.per_image import FOLDER
from tune_bn.records.seal import REPLY
from tune_bn.records.times import utc_now

MANIFEST = "MANIFEST.json"
CODE_DIFF = "code.diff"
"""What the code differed by from its commit when the plan was locked, which keeps the hash of it."""
WEIGHTS = "weights"
SCHEMA_VERSION = 1
NEEDED = ("plan.json", "records.jsonl", "space.yaml", "verdict.json")
"""Without these there is nothing to verify."""
ALSO = (
    *("curves.jsonl", "data.json", "early_order.json", "report.md", "report.html", "score.json"),
    *("optuna.journal", REPLY),
    *(CODE_DIFF, "code.tar.gz", "code.json"),
)
FOLDERS = (FOLDER, "diagnostics", "plots")
MOST_UNPACKED_BYTES = 2**30
"""Bytes of all members together: a bundle that says more is none of ours."""
MOST_MEMBERS = 50_000
_WHEN = (1980, 1, 1, 0, 0, 0)


def write_bundle(study: Path, out: Path, extra: Mapping[str, bytes], *, weights: bool = False) -> str:
    """Write the bundle of a study; its SHA-256. Equal studies give equal bytes, but for the time in the manifest.

    Args:
        study: its folder, with a verdict.
        out: the archive; it must not exist.
        extra: more members by name, such as ``environment.json``.
        weights: whether the weights of the confirmed runs are members, where the study kept them.

    Raises:
        StudyError: a file is missing, or the archive cannot be written.
    """
    for name in NEEDED:
        if not (study / name).is_file():
            raise StudyError(f"{study / name}: missing; accepted: a study that was confirmed and verified")
    members = {name: study / name for name in (*NEEDED, *ALSO) if (study / name).is_file()}
    if weights and not any((study / WEIGHTS).glob("*.pt")):
        kept = "a study that kept its weights (resources.keep_weights: confirmed), or no --weights"
        raise StudyError(f"--weights: got {study}, which has none; accepted: {kept}")
    for folder in (*FOLDERS, *([WEIGHTS] if weights else [])):
        for path in sorted((study / folder).glob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix != ".tmp":
                members[f"{folder}/{path.name}"] = path
    try:
        total = sum(path.stat().st_size for path in members.values())
        if total > MOST_UNPACKED_BYTES:
            raise StudyError(
                f"{out}: its members would have {total:,} bytes; accepted: {MOST_UNPACKED_BYTES:,}"
                + (", as without --weights" if weights else "")
            )
        contents = {name: path.read_bytes() for name, path in members.items()} | dict(extra)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "made_at": utc_now(),
            "members": {
                name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in sorted(contents.items())
            },
        }
        contents = {MANIFEST: json.dumps(manifest, indent=1).encode() + b"\n"} | contents
        if out.exists():
            raise StudyError(f"{out}: exists; accepted: the name of a new file")
        aside = out.with_name(f".{out.name}.tmp")
        try:
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
                for name, data in contents.items():
                    info = zipfile.ZipInfo(name, _WHEN)
                    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
                    archive.writestr(info, data)
            os.replace(aside, out)
        finally:
            aside.unlink(missing_ok=True)
        return hashlib.sha256(out.read_bytes()).hexdigest()
    except OSError as error:
        raise StudyError(
            f"{error.filename or out}: {error.strerror}; accepted: files and a folder that can be used"
        ) from None


def is_bundle(text: str | Path) -> bool:
    """Whether what was given is meant as a bundle, and not as a study."""
    return str(text).endswith(".zip")


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A temporary folder with the members of a bundle, every one checked; it is gone afterwards.

    Raises:
        StudyError: in one line, what is wrong with the bundle.
    """
    with tempfile.TemporaryDirectory(prefix="tune_bn_bundle_") as place:
        folder = Path(place)
        for name, data in _members(path).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        yield folder


def _members(path: Path) -> dict[str, bytes]:
    def refused(problem: str) -> StudyError:
        return StudyError(f"{path}: {problem}; accepted: a bundle as `tune_bn bundle` wrote it")

    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            problem = _names_problem(infos)
            if problem is not None:
                raise refused(problem)
            contents = {info.filename: _read(archive, info) for info in infos}
    except FileNotFoundError:
        raise StudyError(f"{path}: missing; accepted: a bundle, or the name of a study") from None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise refused(f"cannot be read as a ZIP archive ({first_line(error)})") from None
    problem = _content_problem(contents)
    if problem is not None:
        raise refused(problem)
    return contents


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    # The size that the archive states is a claim; no more than that is ever unpacked.
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{info.filename} is not of the size that it states")
    return data


def _names_problem(infos: list[zipfile.ZipInfo]) -> str | None:
    if len(infos) > MOST_MEMBERS:
        return f"it has {len(infos):,} members (at most {MOST_MEMBERS:,})"
    total = sum(info.file_size for info in infos)
    if total > MOST_UNPACKED_BYTES:
        return f"it would unpack to {total:,} bytes (at most {MOST_UNPACKED_BYTES:,})"
    seen: set[str] = set()
    for info in infos:
        name, parts = info.filename, PurePosixPath(info.filename).parts
        odd = name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in parts or not parts
        if odd or str(PurePosixPath(name)) != name or len(name) > 200 or len(parts) > 3:
            return f"a member is called {name[:80]!r}, which is no plain name"
        mode = info.external_attr >> 16
        # Not every program states what kind of file a member is.
        if info.is_dir() or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            return f"{name} is no plain file"
        if name.casefold() in seen:
            return f"{name} is there twice"
        seen.add(name.casefold())
    return None


def _content_problem(contents: Mapping[str, bytes]) -> str | None:
    if MANIFEST not in contents:
        return f"{MANIFEST} is missing"
    try:
        manifest = json.loads(contents[MANIFEST])
        version, stated = manifest["schema_version"], manifest["members"]
        named = {name: (entry["bytes"], entry["sha256"]) for name, entry in stated.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return f"{MANIFEST} is no manifest"
    if version != SCHEMA_VERSION:
        return f"schema_version of {MANIFEST} is {version!r} (known: {SCHEMA_VERSION})"
    for name in NEEDED:
        if name not in named:
            return f"{name} is missing"
    odd = sorted(set(named) ^ (set(contents) - {MANIFEST}))
    if odd:
        return f"{odd[0][:80]} is {'missing' if odd[0] in named else 'not in the manifest'}"
    for name, (size, sha256) in named.items():
        if len(contents[name]) != size or hashlib.sha256(contents[name]).hexdigest() != sha256:
            return f"{name} was changed (its hash is not that of the manifest)"
    return None


def _line_of(path: str, key: str) -> str | None:
    """What a file of the kernel says behind ``key:``; None where there is no such file or line."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), None)


def environment_bytes() -> bytes:
    """A member that says what is installed where the bundle is made; what each run ran on stands in its record."""
    # Loaded by every verb, this module is not to load what this one needs.
    import platform
    from importlib import metadata

    packages = {found.metadata["Name"]: found.version for found in metadata.distributions()}
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _line_of("/proc/cpuinfo", "model name"),
        "nvidia_driver": _line_of("/proc/driver/nvidia/version", "NVRM version"),
        "packages": dict(sorted((str(name), version) for name, version in packages.items() if name)),
    }
    return json.dumps(facts, indent=1).encode() + b"\n"
