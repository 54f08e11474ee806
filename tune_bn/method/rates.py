"""Does γ still learn at ``lr / c``? Many schedulers write one number into every parameter group.

``OneCycleLR(max_lr=0.1)``, ``eta_min``, ``min_lr``, a warm-up from a fixed rate, ``group["lr"] = x`` for every group
and a loaded optimizer state of another c all lose the ratio of the rates, and nothing in PyTorch tells. So what
:func:`tune_bn.method.groups.parameter_groups` was asked is remembered by parameter, which no scheduler and no state
dict rewrites, and every step of an optimizer that holds such parameters is preceded by a look at a few numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakTensorKeyDictionary

from tune_bn.errors import MethodError
from tune_bn.script.notes import note

DIVISOR = "lr_divisor"
"""Key of a parameter group: what its learning rate is divided by, 1 for all but γ and β."""
SYMBOLS = {"gamma": "γ", "beta": "β"}
TOLERANCE = 1e-4
"""Largest accepted deviation of a rate, as a share of ``lr / c``, with the larger of the lr's at the start and now.

Rates in single precision differ by less, and so does an ``eta_min`` that no step can notice.
"""
EXACT = 1e-9
"""Relative deviation up to which a kept rate is left as the scheduler wrote it: a right one stays bit for bit."""

O = TypeVar("O", bound=Optimizer)  # noqa: E741


class _Call:
    """One call of ``parameter_groups``."""

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.kept = False


@dataclass(frozen=True)
class _Asked:
    """What a call said of a parameter: the name of its group, and what its rate is divided by."""

    call: _Call
    name: str
    divisor: float

    @property
    def symbol(self) -> str:
        """Empty for those that learn at lr."""
        return SYMBOLS.get(self.name, "")


@dataclass(frozen=True)
class _Rule:
    """Group ``place`` learns at 1/``divisor`` of the rate of one of the groups ``references``."""

    call: _Call
    symbol: str
    divisor: float
    place: int
    references: tuple[int, ...]


@dataclass
class _Watch:
    """What is to be looked at in an optimizer, and the rates that were found right."""

    shape: tuple[Any, ...]
    rules: tuple[_Rule, ...]
    mixed: tuple[str, ...]
    seen: tuple[Any, ...] | None = None
    told: bool = False
    """Whether it was said that γ stands in one group with others."""


# By parameter, then by the divisors asked for: a model that is grouped for another c too has several, the latest last.
_asked: MutableMapping[Tensor, dict[tuple[Any, ...], _Asked]] = WeakTensorKeyDictionary()
_watches: WeakKeyDictionary[Optimizer, _Watch] = WeakKeyDictionary()
_hooks: list[Any] = []


def remember_rates(groups: Sequence[dict[str, Any]], lr: float) -> None:
    """Mark new parameter groups with their divisors, and have every step of an optimizer that holds them looked at."""
    call, divisors = _Call(float(lr)), tuple((group["name"], group[DIVISOR]) for group in groups)
    for group in groups:
        one = _Asked(call, group["name"], group[DIVISOR])
        for parameter in group["params"]:
            asked = _asked.setdefault(parameter, {})
            asked.pop(divisors, None)
            asked[divisors] = one
    if not _hooks:
        _hooks.append(register_optimizer_step_pre_hook(_before_step))


def check_rates(optimizer: Optimizer) -> None:
    """Check that γ learns at ``lr / c`` now, with the c that :func:`~tune_bn.method.groups.parameter_groups` was given.

    The same look comes before every step by itself, so a script that takes its groups from ``parameter_groups`` ends
    with this error at the first step with a wrong rate. Call it to know earlier, right after a scheduler was made or a
    state dict loaded, and after each step of a scheduler where the optimizer's steps are replayed from a CUDA graph,
    which runs no Python.

    Compared are rates within one optimizer: those of γ, and of β where it has a divisor, with that of a group with
    weights of the same call, or with shifts where there are no weights. Where an optimizer holds γ alone, nothing is
    compared.

    Raises:
        MethodError: a rate is not ``lr / c``; γ stands in one group with parameters of another divisor; the optimizer
            holds no γ that ``parameter_groups`` has seen.
    """
    watch = _watched(optimizer)
    _require_apart(watch)
    _check(optimizer.param_groups, watch.rules)


def keep_rates(optimizer: O) -> O:
    """Let γ learn at ``lr / c`` whatever a scheduler, a loaded state or a script writes; returns the optimizer.

    From here on the rate of γ, and of β where it has a divisor, is overwritten before every step by the rate of the
    first group with weights of the same call, divided by c. A rate that is right stays bit for bit. So any
    scheduler will do, also one that knows a single number for all groups, as ``OneCycleLR(max_lr=0.1)``, ``eta_min`` or
    ``min_lr``. It is overwritten at once too; call it again after each step of a scheduler where the optimizer's steps
    are replayed from a CUDA graph that was captured elsewhere.

    ``scheduler.get_last_lr()`` still tells what the scheduler wrote; ``optimizer.param_groups`` what was learned at.

    Raises:
        MethodError: no ``torch.optim.Optimizer``; it holds no γ that ``parameter_groups`` has seen, or γ without the
            groups that its rate is a part of, or in one group with them.
    """
    if not isinstance(optimizer, Optimizer):
        raise MethodError(f"optimizer: got {type(optimizer).__name__}; accepted: a torch.optim.Optimizer")
    watch = _watched(optimizer)
    _require_apart(watch)
    if not watch.rules:
        raise MethodError(
            "optimizer: got one that holds γ without the other groups; accepted: an optimizer with the weights or the "
            "shifts of parameter_groups too, whose rate is divided by c"
        )
    for rule in watch.rules:
        rule.call.kept = True
        _keep(optimizer.param_groups, rule)
    return optimizer


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    # A graph that is being compiled is broken for our own groups alone.
    if torch.compiler.is_compiling() and not any(group.get("name") in SYMBOLS for group in optimizer.param_groups):
        return
    _look(optimizer)


@_disable_dynamo
def _look(optimizer: Optimizer) -> None:
    groups, watch = optimizer.param_groups, _watch(optimizer)
    if watch.mixed and not watch.told:
        watch.told = True
        # No error: the same model may be trained without a rate of its own for γ on purpose, as a control.
        warnings.warn(f"{_mixed_words(watch)}, so c has no effect here", stacklevel=3)
    if not watch.rules:
        return
    if watch.seen is None:
        for rule in watch.rules:
            note("learns", symbol=rule.symbol, divisor=float(rule.divisor))
    rates = tuple(group.get("lr") for group in groups)
    if any(isinstance(rate, Tensor) and rate.is_cuda for rate in rates) and torch.cuda.is_current_stream_capturing():
        # Nothing can be read here; what is written is written by every replay.
        for rule in watch.rules:
            if rule.call.kept:
                _keep(groups, rule)
        return
    if _stamps(groups) == watch.seen:
        return
    for rule in watch.rules:
        if rule.call.kept:
            _keep(groups, rule)
    _check(groups, [rule for rule in watch.rules if not rule.call.kept])
    watch.seen = _stamps(groups)


def _stamps(groups: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """Something that changes when a rate does, without waiting for the device on which it lies."""
    rates = (group.get("lr") for group in groups)
    return tuple((id(rate), rate._version) if isinstance(rate, Tensor) else rate for rate in rates)


def _watched(optimizer: Optimizer) -> _Watch:
    watch = _watch(optimizer)
    if not (watch.rules or watch.mixed or _holds_gamma(optimizer)):
        raise MethodError(
            "optimizer: got one without a γ that parameter_groups has seen; accepted: an optimizer of the groups that "
            "tune_bn.parameter_groups returned in this process"
        )
    return watch


def _holds_gamma(optimizer: Optimizer) -> bool:
    held = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return any(one.symbol for parameter in held for one in _asked.get(parameter, {}).values())


def _watch(optimizer: Optimizer) -> _Watch:
    groups = optimizer.param_groups
    shape = tuple((id(group), len(group["params"]), group.get(DIVISOR)) for group in groups)
    watch = _watches.get(optimizer)
    if watch is None or watch.shape != shape:
        watch = _watches[optimizer] = _look_through(groups, shape)
    return watch


def _look_through(groups: Sequence[dict[str, Any]], shape: tuple[Any, ...]) -> _Watch:
    """Who is in which group, by what ``parameter_groups`` was asked for each parameter."""
    scaled: list[dict[tuple[_Call, float], str]] = []
    plain: list[dict[_Call, set[str]]] = []
    for group in groups:
        scaled.append({})
        plain.append({})
        for parameter in group["params"]:
            asked = list(_asked.get(parameter, {}).values())
            if any(one.symbol for one in asked):
                # The group's own mark tells which call it comes from, unless a loaded state brought a foreign one.
                one = ([one for one in asked if one.divisor == group.get(DIVISOR)] or asked)[-1]
                scaled[-1][one.call, one.divisor] = one.symbol
            else:
                for one in asked:
                    plain[-1].setdefault(one.call, set()).add(one.name)
    rules, mixed = [], []
    for place, members in enumerate(scaled):
        for (call, divisor), symbol in members.items():
            if call in plain[place]:
                # With a divisor of 1 nothing is lost by it.
                mixed += [symbol] * (divisor != 1)
                continue
            others = {n: calls[call] for n, calls in enumerate(plain) if call in calls and not scaled[n]}
            weights = tuple(n for n, names in others.items() if "weights" in names)
            if others:
                rules.append(_Rule(call, symbol, divisor, place, weights or tuple(others)))
    return _Watch(shape, tuple(rules), tuple(mixed))


def _require_apart(watch: _Watch) -> None:
    if watch.mixed:
        raise MethodError(f"{_mixed_words(watch)}; accepted: the groups as parameter_groups returns them")


def _mixed_words(watch: _Watch) -> str:
    return f"optimizer: got {watch.mixed[0]} in one group with parameters that learn at lr"


def _check(groups: Sequence[dict[str, Any]], rules: Sequence[_Rule]) -> None:
    for rule in rules:
        rate = _number(groups[rule.place])
        others = [_number(groups[place]) for place in rule.references]
        known = [other for other in others if other is not None]
        if rate is None or not known:
            continue
        if not any(_fits(rate, other, rule) for other in known):
            c = "c" if rule.symbol == "γ" else "c_beta"
            raise MethodError(
                f"lr of {rule.symbol}: got {rate:g} beside an lr of {known[0]:g}; accepted: "
                f"{known[0] / rule.divisor:g}, which is lr / {c} with {c} = {rule.divisor:g} as parameter_groups was "
                "asked. A scheduler that writes one number into all groups does this, or a loaded optimizer state; "
                f"tune_bn.keep_rates(optimizer) keeps {rule.symbol} at lr / {c} whatever is written"
            )


def _number(group: dict[str, Any]) -> float | None:
    """The rate as a number; None where a group has none or a tensor holds no value."""
    rate = group.get("lr")
    if rate is None or (isinstance(rate, Tensor) and rate.is_meta):
        return None
    return float(rate)


def _fits(rate: float, reference: float, rule: _Rule) -> bool:
    limit = TOLERANCE * max(rule.call.lr, abs(reference)) / rule.divisor
    return abs(rate - reference / rule.divisor) <= limit


@torch.no_grad()
def _keep(groups: Sequence[dict[str, Any]], rule: _Rule) -> None:
    group, reference = groups[rule.place], groups[rule.references[0]].get("lr")
    if reference is None:
        return
    rate, wanted = group.get("lr"), reference / rule.divisor
    if isinstance(rate, Tensor):
        # One tensor may have been put into several groups.
        if any(other.get("lr") is rate for other in groups if other is not group):
            group["lr"] = rate.new_tensor(0.0).add_(wanted)
        elif isinstance(wanted, Tensor):
            rate.copy_(wanted)
        else:
            rate.fill_(wanted)
    elif isinstance(wanted, Tensor) or rate is None or not abs(rate - wanted) <= EXACT * abs(wanted):
        group["lr"] = wanted
