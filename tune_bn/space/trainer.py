"""The section ``trainer`` of the space file: training code of the user's own."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from tune_bn.errors import ConfigError
from tune_bn.protocols.trainers import TRAINERS
from tune_bn.records.score import LAST, Score
from tune_bn.space.messages import accepted_words, did_you_mean
from tune_bn.space.sections import LARGEST_COUNT, Section, entry

Plain = str | bool | int | float
OWN_NAMES = ("seed", "steps", "checkpoint", "run", "data")
"""What every run has; no parameter may be called so."""
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|min|h|d)")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
TAPS = ("csv", "json", "tensorboard", "printed")
"""Where metrics of a script can be, beside what it reports by the helper."""
_OF_PACKAGES = frozenset(("name", "options", "params", "meaning", "steps", "root"))
"""What the trainer of a package takes; anything else is for commands and functions."""


def _duration(value: Any) -> Any:
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    return value if found is None else float(found[1]) * _SECONDS[found[2]]


Seconds = Annotated[float, BeforeValidator(_duration), Field(gt=0, le=LARGEST_COUNT)]


class TrainerSection(Section):
    """Who trains, if not the built-in loop."""

    name: str | None = entry(
        None,
        doc="a trainer that an installed package adds (entry points `tune_bn.trainers`), which has a score of its own "
        "and takes `params`, `meaning`, `steps` and `options` alone",
        accepted="null or the name of such a trainer",
        added=True,
    )
    options: dict[str, Any] = entry(
        {},
        doc="`name`: what the trainer is told when it is made",
        accepted="a mapping that the trainer takes",
        added=True,
    )
    command: list[str] | None = entry(
        None,
        doc="the command line, one word each, without a shell; `{name}` stands for a parameter, `{seed}`, `{steps}`, "
        "`{checkpoint}`, `{run}` (the run's folder) and `{data}` for what the run is given",
        accepted='a list of words such as [python, train.py, "--lr={lr}"]',
        min_length=1,
    )
    function: str | None = entry(
        None, doc="a function that is called with the run, in the worker", accepted="package.module:name"
    )
    ask: bool = entry(
        False,
        doc="in place of a command or function: loops elsewhere ask for runs by `tune_bn ask`, and tell their scores "
        "by `tune_bn tell`; nothing is started here, and no run is stopped early",
        accepted="true or false",
        added=True,
    )
    isolate: bool = entry(
        False,
        doc="`function`: in a process of its own, instead of one worker after the other",
        accepted="true or false",
    )
    params: dict[str, Plain] = entry(
        {},
        doc="parameters that are the same for every run, by free names; searched ones stand in `search`",
        accepted="a mapping from names (letters, digits, '_') to numbers, words or switches",
    )
    meaning: dict[str, str] = entry(
        {},
        doc="what a parameter called gamma or c is, where it is not the BN scale and its divisor as "
        "`tune_bn.scale_batchnorm` and `tune_bn.parameter_groups` take them",
        accepted="a mapping from gamma or c to words",
    )
    steps: int = entry(
        doc="steps (epochs) of a full run; it shapes schedules, so nothing ever shortens it",
        accepted="an integer ≥ 1",
        ge=1,
        le=10**6,
    )
    ends_early: bool = entry(
        False,
        doc="the script may end before its last step by a rule of its own, and says so by `finish(stopped_early=True)`",
        accepted="true or false",
    )
    score: dict[str, Any] = entry(
        {},
        doc="`validation` and `test`: the names of the scores; `goal`: max or min; `at`: which step counts, last, best "
        "or mean_last(k); `range`: [low, high], `unit` and `diverged`, the score of a run whose score is not finite, "
        "and `step`, what a step is called (epoch), may be left out",
        accepted="a mapping such as {validation: val_acc, test: test_acc, goal: max}",
    )
    metrics: dict[str, Any] | None = entry(
        None,
        doc="where the metrics are: null: reported by the helper, `tune_bn.current_run`; or files of the script, or "
        "(`printed`) lines that it prints, found by one or more regular expressions with named groups: where no group "
        "is the step lines are counted, and a line without it is of the step that was named last",
        accepted="null or a mapping such as {csv: logs/*.csv, step: epoch, rename: {acc: val_acc}}; csv, json, "
        "tensorboard or printed",
    )
    checkpoint: str | None = entry(
        None,
        doc="pattern of the script's own checkpoints, below its current folder; null: the helper's",
        accepted="null or a path with wildcards such as out/last*",
    )
    resume: list[str] = entry(
        [], doc="words added to the command where there is a checkpoint to go on from", accepted="a list of words"
    )
    test_command: list[str] | None = entry(
        None,
        doc="gives the test score of a confirmed run, in a process of its own that alone is told where the test data "
        "is; null: the script reports it by `finish` where `run.wants_test`",
        accepted='null or a list of words such as [python, test.py, "{checkpoint}", "{data}"]',
        min_length=1,
    )
    test_metrics: dict[str, Any] | None = entry(
        None, doc="as `metrics`, for the test command", accepted="null or a mapping such as {json: result.json}"
    )
    test_checkpoint: Literal["last", "best"] = entry(
        "last",
        doc="what is tested: the checkpoint of the last step, or of the best validation score",
        accepted="last | best",
    )
    data: dict[str, str] = entry(
        {},
        doc="where the data is: `search` is told to every run as `{data}` and `run.data`, in every stage; `test` to "
        "the test alone: as `{data}` to the test command, or as `run.test_data` where `run.wants_test`",
        accepted="a mapping with the keys search and test to paths",
    )
    files: dict[str, str] = entry(
        {},
        doc="configuration files that are written into each run's copy of the code, from templates with placeholders",
        accepted="a mapping from paths to paths of templates, such as {conf.yaml: conf.template.yaml}",
    )
    code: Literal["git"] | list[str] = entry(
        "git",
        doc="what is frozen when the study begins, and copied for each run: what git knows there, or files and folders",
        accepted="git or a list of files and folders",
    )
    root: str | None = entry(None, doc="folder of the code; null: that of the space file", accepted="null or a path")
    env: dict[str, Plain] = entry({}, doc="environment variables; placeholders work", accepted="a mapping to values")
    pty: bool = entry(
        False,
        doc="let the script believe that it is at a terminal, of 80 columns and without input",
        accepted="true or false",
    )
    timeout: Seconds | None = entry(
        None, doc="longest time that an attempt may take", accepted="null or a time such as 2h, 30 min or 90s"
    )
    grace: Seconds = entry(
        30.0,
        doc="time between the ways of ending a script: the stop file, SIGTERM, SIGKILL",
        accepted="a time such as 30s",
    )
    save_every: Seconds = entry(
        60.0, doc="least time between two checkpoints of the helper", accepted="a time such as 60s"
    )
    confirm_resume: Literal["exact", "restart", "any"] = entry(
        "exact",
        doc="a confirmed run that was interrupted: `exact` goes on from its checkpoint, and begins again where a "
        "repeated step differs; `restart` always begins again; `any` takes whatever comes",
        accepted="exact | restart | any",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.ask:
            self._agrees_with_ask()
        elif self.name is not None:
            self._is_of_a_package(self.name)
        elif self.options:
            raise ConfigError("options", self.options, "no options without the name of a trainer of a package")
        elif (self.command is None) == (self.function is None):
            accepted = "a command, a function or a name, one of the three, or ask: true"
            raise ConfigError("command", self.command, accepted)
        elif not self.score:
            raise ConfigError("score", self.score, accepted_words(type(self).model_fields["score"]))
        if self.function is not None and not _FUNCTION.fullmatch(self.function):
            raise ConfigError("function", self.function, "package.module:name")
        if self.isolate and self.function is None:
            raise ConfigError("isolate", self.isolate, "false with a command, which has a process of its own")
        for name in self.params:
            check_name("params", name)
        for name in self.meaning:
            if name not in ("gamma", "c"):
                raise ConfigError(f"meaning.{name}", self.meaning[name], "gamma or c")
        for key in ("metrics", "test_metrics"):
            _check_tap(key, getattr(self, key))
        self._agrees_with_what_is_printed()
        for key, value in self.data.items():
            if key not in ("search", "test"):
                raise ConfigError(f"data.{key}", value, "search or test")
        if self.checkpoint is not None and not self.resume and self.test_command is None:
            raise ConfigError("checkpoint", self.checkpoint, "null, or resume or test_command beside it")
        for key in ("files", "checkpoint"):
            given = getattr(self, key)
            for path in given if isinstance(given, dict) else filter(None, [given]):
                if path.startswith("/") or ".." in path.split("/"):
                    raise ConfigError(key, path, "a path below the run's current folder")
        _ = self.scored
        return self

    def _agrees_with_what_is_printed(self) -> None:
        for key, score, ends in (("metrics", "validation", False), ("test_metrics", "test", True)):
            tap = getattr(self, key)
            if tap is None or "printed" not in tap:
                continue
            place, printed, step = f"{key}.printed", tap["printed"], tap.get("step", "step")
            if self.function is not None and not self.isolate and not ends:
                raise ConfigError(place, printed, "what a command prints, or a function with isolate: true")
            groups = [name for pattern in patterns_of(printed) for name in re.compile(pattern).groupindex]
            names = {tap.get("rename", {}).get(name, name) for name in groups if ends or name != step}
            if self.score and self.score.get(score) not in names:
                accepted = (
                    f"a pattern with the group {self.score.get(score)}, such as {_example(self.score.get(score))}"
                )
                raise ConfigError(place, printed, accepted)
            if self.resume and not ends and step not in groups:
                accepted = f"a pattern with the group {step}, since a script that goes on would be counted from 1 again"
                raise ConfigError(place, printed, accepted)

    def _agrees_with_ask(self) -> None:
        taken = {"ask", "params", "meaning", "steps", "score", "data", "root"}
        for key in type(self).model_fields:
            # A study writes every default out.
            if key not in taken and getattr(self, key) != type(self).model_fields[key].default:
                accepted = "nothing beside ask: true, since whoever asks knows how it trains"
                raise ConfigError(key, getattr(self, key), accepted)

    def _is_of_a_package(self, name: str) -> None:
        if name not in TRAINERS:
            known = did_you_mean(name, list(TRAINERS)) if TRAINERS else "none is installed"
            raise ConfigError("name", name, f"a trainer of an installed package ({known}); or a command or a function")
        try:
            _ = TRAINERS[name]
        except ConfigError as error:
            raise ConfigError("name", name, error.accepted) from error
        for key in sorted(self.model_fields_set - _OF_PACKAGES):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ConfigError(
                    key, getattr(self, key), f"no such key beside name: {name} is the trainer of a package"
                )

    @property
    def scored(self) -> Score:
        """The score. Raises :class:`ConfigError`."""
        if self.name is not None:
            return TRAINERS[self.name].score
        known = {"validation", "test", "goal", "at", "range", "unit", "diverged", "step"}
        for key in self.score:
            if key not in known:
                raise ConfigError(f"score.{key}", self.score[key], f"one of {', '.join(sorted(known))}")
        for key in ("validation", "test", "goal"):
            if not isinstance(self.score.get(key), str):
                words = "max | min" if key == "goal" else "a name"
                raise ConfigError(f"score.{key}", self.score.get(key), words)
        if self.score["validation"] == self.score["test"]:
            accepted = "another name than that of the validation score: the two are never the same number"
            raise ConfigError("score.test", self.score["test"], accepted)
        ends = self.score.get("range") or [None, None]
        if not isinstance(ends, list) or len(ends) != 2 or not all(v is None or type(v) in (int, float) for v in ends):
            raise ConfigError("score.range", ends, "[low, high], null for an end that there is not")
        diverged = self.score.get("diverged")
        if diverged is not None and type(diverged) not in (int, float):
            raise ConfigError("score.diverged", diverged, "null or a number")
        try:
            low, high = (None if end is None else float(end) for end in ends)
            return Score(
                self.score["validation"],
                self.score["test"],
                self.score["goal"],
                low,
                high,
                unit=str(self.score.get("unit", "")),
                at=str(self.score.get("at", LAST)),
                diverged=None if diverged is None else float(diverged),
                step=str(self.score.get("step", "step")),
            )
        except ConfigError as error:
            raise ConfigError(f"score.{error.key}", error.value, error.accepted) from None


def check_name(place: str, name: str) -> None:
    """Raise :class:`ConfigError` where a parameter cannot be called so."""
    good = name.isidentifier() and not keyword.iskeyword(name) and name.isascii() and len(name) <= 40
    if not good or name in OWN_NAMES or name.startswith("_"):
        accepted = f"a name of letters, digits and '_', other than {', '.join(OWN_NAMES)}"
        raise ConfigError(f"{place}.{name}", name, accepted)


def patterns_of(printed: Any) -> list[str]:
    """What a tap names, one or several: regular expressions where it is `printed`."""
    return [printed] if isinstance(printed, str) else list(printed)


def _example(name: Any) -> str:
    return rf"'valid loss (?P<{name}>\S+)'"


def _check_tap(key: str, tap: Mapping[str, Any] | None) -> None:
    if tap is None:
        return
    kinds = [kind for kind in TAPS if kind in tap]
    for name in tap:
        if name not in (*TAPS, "step", "rename"):
            raise ConfigError(f"{key}.{name}", tap[name], f"one of {', '.join(TAPS)}, step, rename")
    if len(kinds) != 1:
        raise ConfigError(key, dict(tap), f"one of {', '.join(TAPS)}, such as {{csv: log.csv}}")
    place, given = f"{key}.{kinds[0]}", tap[kinds[0]]
    if kinds == ["printed"]:
        _check_patterns(place, given)
    elif not isinstance(given, str) or not given or given.startswith("/") or ".." in given.split("/"):
        raise ConfigError(place, given, "a path below the run's current folder, wildcards included")
    rename = tap.get("rename", {})
    if not isinstance(rename, Mapping) or not all(isinstance(word, str) for pair in rename.items() for word in pair):
        raise ConfigError(f"{key}.rename", rename, "a mapping from names in the file to names of metrics")
    if not isinstance(tap.get("step", ""), str):
        raise ConfigError(f"{key}.step", tap["step"], "the name of a column")


def _check_patterns(place: str, given: Any) -> None:
    accepted = f"a regular expression with named groups, such as {_example('val_loss')}, or a list of such"
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) and one for one in listed):
        raise ConfigError(place, given, accepted)
    for pattern in listed:
        try:
            found = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(place, pattern, f"{accepted} ({error})") from None
        if not found.groupindex:
            raise ConfigError(place, pattern, accepted)
        if "\n" in pattern:
            raise ConfigError(place, pattern, "patterns of one line, which is what they are tried on")
