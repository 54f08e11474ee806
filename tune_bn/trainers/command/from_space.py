"""From the section ``trainer`` of a space file to the trainer that it asks for."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import os
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tune_bn.errors import ConfigError, SpecError
from tune_bn.records.files import read_bytes, write_json, writing
from tune_bn.space.messages import did_you_mean
from tune_bn.space.space import Space
from tune_bn.space.trainer import TAPS, patterns_of
from tune_bn.trainers.command.code import FrozenCode, freeze, is_source
from tune_bn.trainers.command.placeholders import OWN, names_in
from tune_bn.trainers.command.settings import CommandSettings, SealedTest, Tap
from tune_bn.trainers.command.trainer import CommandTrainer, identity_of

CODE_FILE, CODE_FACTS = "code.tar.gz", "code.json"
WHOLE_BYTES = 256 * 2**20
"""Data of at most this size is hashed as a whole; of more, all names and sizes, and both ends of some files."""
END_BYTES = 1 << 16
SOME_FILES = 1000


def command_trainer(space: Space, *, study: Path | None = None) -> CommandTrainer:
    """The trainer.

    Args:
        space: with a section ``trainer``.
        study: the folder of a study that goes on, whose frozen code counts.

    Raises:
        SpecError: a file or folder that the section names is not there, or a placeholder stands for nothing.
    """
    section = space.trainer
    assert section is not None
    root = Path(section.root or ".").absolute()
    try:
        settings = CommandSettings(
            command=tuple(section.command or ()),
            function=section.function or "",
            steps=section.steps,
            score=section.scored,
            folder=str(root),
            ends_early=section.ends_early,
            isolate=section.isolate or (section.function is not None and len(space.seeds.search) > 1),
            metrics=_tap(section.metrics),
            checkpoint=section.checkpoint,
            resume=tuple(section.resume),
            test_metrics=_tap(section.test_metrics),
            test_checkpoint=section.test_checkpoint,
            search_data=_data(root, section.data, "search"),
            files=dict(section.files),
            env={name: str(value) for name, value in section.env.items()},
            terminal=section.pty,
            timeout=section.timeout,
            grace=section.grace,
            save_every=section.save_every,
            confirm_resume=section.confirm_resume,
        )
        sealed = SealedTest(tuple(section.test_command or ()), _data(root, section.data, "test"))
        frozen = None if study is None else _kept(study)
        if frozen is None:
            for key, command in (("command", settings.command), ("test_command", sealed.command)):
                check_words(key, command, root)
            left_out = [root / "studies", *([] if study is None else [study.parent])]
            places = [Path(place) for place in (settings.search_data, sealed.data) if place is not None]
            frozen = freeze(root, section.code, leave_out=left_out, data=places)
        _check_placeholders(space, settings, sealed, root)
        _check_code(section.code, settings, sealed, root, frozen)
    except ConfigError as error:
        key = error.key if error.key.startswith("trainer") else f"trainer.{error.key}"
        raise SpecError(f"{key}: got {error.value!r}; accepted: {error.accepted}") from None
    data = {
        key: identity
        for key, place in (("search", settings.search_data), ("test", sealed.data))
        if place is not None and (identity := data_identity(Path(place)))
    }
    return CommandTrainer(settings, frozen, data, sealed, identity_of(settings, frozen, sealed))


def keep_code(trainer: Any, study: Path) -> None:
    """Keep the frozen code with the study: a resume goes on with it, whatever has become of its origin.

    Raises:
        StudyError: it cannot be written.
    """
    if not isinstance(trainer, CommandTrainer) or (study / CODE_FACTS).exists():
        return
    frozen = trainer.frozen
    with writing(study / CODE_FILE):
        (study / CODE_FILE).write_bytes(frozen.archive)
        facts = {"sha256": frozen.digest, "files": frozen.files, "origin": frozen.origin, "links": list(frozen.links)}
        write_json(study / CODE_FACTS, facts)


def _kept(study: Path) -> FrozenCode | None:
    import json

    try:
        facts = json.loads(read_bytes(study / CODE_FACTS))
        archive = read_bytes(study / CODE_FILE)
        with tarfile.open(fileobj=io.BytesIO(archive)) as whole:
            digest = hashlib.sha256()
            for entry in whole:
                held = whole.extractfile(entry)
                content = b"" if held is None else held.read()
                digest.update(f"{entry.name}\0{entry.mode}\0{len(content)}\0".encode() + content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, tarfile.TarError) as error:
        raise SpecError(
            f"{study / CODE_FILE}: cannot be read ({error}); accepted: the file as the study wrote it"
        ) from None
    if digest.hexdigest() != facts.get("sha256"):
        raise SpecError(f"{study / CODE_FILE}: was changed; accepted: the file as the study wrote it")
    return FrozenCode(facts["sha256"], facts["files"], archive, facts["origin"], tuple(facts["links"]))


def _tap(given: Mapping[str, Any] | None) -> Tap | None:
    if given is None:
        return None
    kind = next(kind for kind in TAPS if kind in given)
    return Tap(kind, "\n".join(patterns_of(given[kind])), given.get("step", "step"), dict(given.get("rename", {})))


def _data(root: Path, data: Mapping[str, str], key: str) -> str | None:
    if key not in data:
        return None
    path = root / data[key]
    if not path.exists():
        raise ConfigError(f"data.{key}", data[key], f"a file or folder that is there, such as one in {root}")
    return str(path.absolute())


def _check_placeholders(space: Space, settings: CommandSettings, sealed: SealedTest, root: Path) -> None:
    known = {*space.run_config(space.baseline), *space.search, *OWN}
    texts = [*settings.command, *settings.resume, *sealed.command, *settings.env.values()]
    for target, template in settings.files.items():
        path = root / template
        if not path.is_file():
            raise ConfigError(f"files.{target}", template, f"a file in {root}")
        try:
            texts.append(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"files.{target}", template, f"a text file ({error})") from None
    if strange := sorted(names_in(texts) - known):
        raise ConfigError("command", f"{{{strange[0]}}}", f"placeholders for {', '.join(sorted(known))}")
    if "data" in names_in(settings.command) and settings.search_data is None:
        raise ConfigError("data.search", None, "a path, since {data} stands in the command")


_OPERATORS = {"&&", "||", "|", ">", ">>", "<", ";", "&", "2>", "2>&1", "&>"}
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "fish"}
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def check_words(key: str, command: Sequence[str], root: Path) -> None:
    """Refuse what a shell would have made of a command: none reads it.

    Raises:
        ConfigError: a word is an operator, names a variable, or leads out of the code by ``..``.
    """
    if (
        command
        and Path(command[0]).name in _SHELLS
        and any(word.startswith("-") and "c" in word for word in command[1:])
    ):
        return
    if command and re.match(r"[A-Za-z_]\w*=", command[0]):
        raise ConfigError(key, command[0], "a program; variables stand in trainer.env")
    for word in command:
        if word in _OPERATORS:
            raise ConfigError(key, word, "words of one program, since no shell reads them; or [sh, -c, 'one && two']")
        for found in _VARIABLE.finditer(word):
            if (name := found[1] or found[2]) in os.environ:
                accepted = f"its value, or [sh, -c, …], since no shell reads the words and ${name} stays as it is"
                raise ConfigError(key, word, accepted)
        path = _path_in(word)
        if path.startswith("../") and os.path.exists(root / path):
            accepted = f"{Path(os.path.abspath(root / path))}, since each run is in a copy of the code; or {{data}}"
            raise ConfigError(key, word, accepted)


def _path_in(word: str) -> str:
    """The path that a word may be, or ends with: ``--config=conf/a.yaml``."""
    option, _, value = word.partition("=")
    return value if option.startswith("-") and value else word


def _check_code(
    code: str | Sequence[str], settings: CommandSettings, sealed: SealedTest, root: Path, frozen: FrozenCode
) -> None:
    """What is called is part of the frozen code: anything else could change while the study goes on."""
    files = set(frozen.names)
    for word in map(_path_in, (*settings.command, *sealed.command)):
        own = "{" not in word and word and not Path(word).is_absolute() and is_source(root / word)
        if own and Path(os.path.normpath(word)).as_posix() not in files:
            accepted = f"code that holds {word}, which a command of the trainer names; or the absolute path of data"
            raise ConfigError("code", code, accepted)
    if not settings.function:
        return
    module, _, name = settings.function.partition(":")
    place = module.replace(".", "/")
    path = next((file for file in (f"{place}.py", f"{place}/__init__.py") if file in files), None)
    if path is None:
        if (root / f"{place}.py").exists() or importlib.util.find_spec(module.partition(".")[0]) is None:
            raise ConfigError("function", settings.function, f"a module of the code that is frozen: {code}")
        return
    try:
        tree = ast.parse(frozen.read(path))
    except SyntaxError as error:
        raise ConfigError("function", settings.function, f"a module without errors ({path}: {error})") from None
    known = {part.name for part in tree.body if isinstance(part, ast.FunctionDef | ast.ClassDef)}
    imports = [part for part in ast.walk(tree) if isinstance(part, ast.ImportFrom)]
    known |= {one.asname or one.name for part in imports for one in part.names}
    known |= {part.id for part in ast.walk(tree) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    first = name.partition(".")[0]
    if first not in known and "*" not in known:
        raise ConfigError("function", settings.function, did_you_mean(first, sorted(known)) if known else "a function")


_HASHED: dict[tuple[Path, str], dict[str, Any]] = {}
"""What this process has hashed, by place, names, sizes and times: the door and the study ask for the same data."""


def data_identity(path: Path) -> dict[str, Any]:
    """Number of files, bytes, and a hash over names, sizes and contents, of a file or of all files in a folder.

    Of large data the contents of files that are spread evenly over it are looked at, and only at both of their ends.
    """
    if path.is_file():
        files = [path]
    else:
        files = sorted(Path(place) / name for place, _, names in os.walk(path) for name in names)
    facts = {file: file.stat() for file in files if file.is_file()}
    seen = hashlib.sha256()
    for file, fact in facts.items():
        seen.update(f"{file}\0{fact.st_size}\0{fact.st_mtime_ns}\0{fact.st_ctime_ns}\0{fact.st_ino}\0".encode())
    key = (path, seen.hexdigest())
    if key not in _HASHED:
        _HASHED[key] = _hashed(path, {file: fact.st_size for file, fact in facts.items()})
    return dict(_HASHED[key])


def _hashed(path: Path, sizes: Mapping[Path, int]) -> dict[str, Any]:
    total = sum(sizes.values())
    digest = hashlib.sha256()
    every = 1 if total <= WHOLE_BYTES else -(-len(sizes) // SOME_FILES)
    for place, (file, size) in enumerate(sizes.items()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{size}\0".encode())
        if place % every:
            continue
        with open(file, "rb") as handle:
            if total <= WHOLE_BYTES or size <= 2 * END_BYTES:
                for piece in iter(lambda: handle.read(1 << 20), b""):
                    digest.update(piece)
            else:
                digest.update(handle.read(END_BYTES))
                handle.seek(-END_BYTES, os.SEEK_END)
                digest.update(handle.read())
    return {"count": len(sizes), "bytes": total, "sha256": digest.hexdigest()}
