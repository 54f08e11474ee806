"""A command line, or a function, as a trainer: what it is in the driver, and its session in a worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tune_bn.protocols.trainer import Place
from tune_bn.records.files import sha256_of
from tune_bn.records.score import Score
from tune_bn.trainers.command.code import FrozenCode
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.settings import CommandSettings, SealedTest
from tune_bn.training.versions import library_versions

PACKAGES = ("lightning", "pytorch-lightning", "transformers", "accelerate", "timm", "scikit-learn", "jax")
"""Beside those of the built-in loop: what scripts are usually made of, as far as it is installed here."""


@dataclass(frozen=True)
class CommandTrainer:
    """A :class:`tune_bn.protocols.trainer.Trainer`. Its configurations are mappings from names to values.

    Args:
        settings: as the space file says.
        frozen: the code as it was when the study began.
        data: identity of the data of search and test.
        sealed: what the confirmation alone is told; None: nothing is.
    """

    settings: CommandSettings
    frozen: FrozenCode
    data: Mapping[str, Any] = field(default_factory=dict)
    sealed: SealedTest | None = None
    identity: str = ""
    """Hash of the code and of all settings that decide a result, of the test too; see :func:`identity_of`."""

    @property
    def name(self) -> str:
        """Which of the two it is."""
        return "function" if self.settings.function else "command"

    @property
    def score(self) -> Score:
        """As the space file says."""
        return self.settings.score

    @property
    def data_names(self) -> Mapping[str, Sequence[str]]:
        """None are known."""
        return {}

    @property
    def data_words(self) -> str:
        """Where the data is."""
        where = self.settings.search_data
        return "trainer.data" if where is None else f"trainer.data.search: {where}"

    @property
    def code(self) -> Sequence[Path]:
        """It travels within this object."""
        return ()

    def steps(self, config: Mapping[str, Any]) -> int:
        """The same for every configuration."""
        del config
        return self.settings.steps

    def versions(self, *configs: Mapping[str, Any]) -> Mapping[str, str]:
        """Of this package and the libraries beside it, and a hash of the user's code and how it is called."""
        del configs
        return {**library_versions(), **_packages(), "trainer": self.identity}

    def without_test(self) -> CommandTrainer:
        """See :meth:`tune_bn.protocols.trainer.Trainer.without_test`."""
        return replace(self, sealed=None, data={key: value for key, value in self.data.items() if key != "test"})

    @property
    def test_part(self) -> SealedTest | None:
        """The test command, and where the test data is."""
        return self.sealed

    def open(self, place: Place) -> CommandSession:
        """See :meth:`tune_bn.protocols.trainer.Trainer.open`."""
        return CommandSession(self, place)


def identity_of(settings: CommandSettings, frozen: FrozenCode, sealed: SealedTest | None) -> str:
    """Hash of what decides a result beside configuration, seed, data and versions."""
    told = asdict(settings)
    for key in ("folder", "grace", "timeout", "save_every", "terminal", "search_data"):
        told.pop(key)
    told["score"] = settings.score.to_json()
    test = None if sealed is None else list(sealed.command)
    return sha256_of({"settings": _plain(told), "code": frozen.digest, "test": test})[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@cache
def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class CommandSession:
    """What the runs of a worker share: nothing but a folder for those that have none of their own."""

    def __init__(self, trainer: CommandTrainer, place: Place) -> None:
        self.trainer, self.place = trainer, place
        self.sealed = trainer.sealed
        self._temporary: Path | None = None
        self._runs: list[ScriptRun] = []
        self.audit: Path | None = None
        """Folder in which scripts note which files they open; None: they do not."""
        self.hold: int | None = None
        """A step at which scripts with the helper wait to be ended; None: none."""

    @property
    def device(self) -> str:
        """See :class:`tune_bn.protocols.trainer.Session`; a saved state holds no tensors."""
        return "cpu"

    def identity(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """See :meth:`tune_bn.protocols.trainer.Session.identity`."""
        return {
            "config": _plain(config),
            "trainer": self.trainer.identity,
            "data": _plain({key: value for key, value in self.trainer.data.items() if key != "test"}),
            "versions": dict(self.trainer.versions()) | {"trainer": self.trainer.identity},
            "device_kind": self.place.device.partition(":")[0],
        }

    @property
    def has_test(self) -> bool:
        """Whether it was told of the test."""
        return self.sealed is not None

    def add_test(self, part: SealedTest) -> None:
        """See :meth:`tune_bn.protocols.trainer.Session.add_test`."""
        self.sealed = part

    def start(
        self,
        config: Mapping[str, Any],
        seed: int,
        *,
        test: str | None = None,
        name: str = "run",
        folder: Path | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> ScriptRun:
        """See :meth:`tune_bn.protocols.trainer.Session.start`. The run's folder itself knows where to go on."""
        settings = self.trainer.settings
        if test is not None and (test != settings.score.test or self.sealed is None):
            raise ValueError(f"test: got {test!r}; accepted: {settings.score.test!r}, once the test part was added")
        if state is not None and state["seed"] != seed:
            raise ValueError(f"state: is of seed {state['seed']}; accepted: of seed {seed}")
        if folder is None:
            if self._temporary is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="tune_bn-"))
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._temporary))
        run = sha256_of({"run": dict(self.identity(config)), "seed": seed, "test": test})
        self._runs = [one for one in self._runs if one.in_this_process]
        begun = ScriptRun(
            settings,
            self.trainer.frozen,
            dict(config),
            seed,
            folder=folder,
            run=run,
            sealed=self.sealed if test is not None else None,
            place=self.place,
            versions=self.trainer.versions(),
            audit=self.audit,
            hold=self.hold,
            # Two functions at a time would share the generators of random numbers.
            alone=not self._runs,
        )
        self._runs.append(begun)
        return begun

    def is_full(self, error: BaseException) -> bool:
        """Whether a script's last words say that its device has no room for it."""
        words = str(error)
        return bool(self.place.gpus) and ("out of memory" in words.lower() or "OutOfMemoryError" in words)

    def free(self) -> None:
        """Nothing is kept on the device."""

    def close(self) -> None:
        """Remove the folders of runs that had none of their own."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
