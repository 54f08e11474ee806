"""From a run's seed to its generators."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch


def run_seed(seed: int) -> int:
    """The seed that the paper's code makes of a run's number: the last 8 hex digits of the MD5 of its decimal text.

    Source: official code osu-cvl/revisiting-bn-init. ``run_seed(1) == 1869972635``.
    """
    return int(hashlib.md5(str(seed).encode(), usedforsecurity=False).hexdigest()[-8:], 16)


@dataclass(frozen=True)
class Generators:
    """Separate streams of one run, so that one of them cannot shift another.

    Two arms with the same seed start from the same convolution weights and see the same images, in the same order, with
    the same flips and crops, also when one arm draws more initial weights than the other.
    """

    init: torch.Generator
    """Initial weights; on the CPU, so that every device starts from the same values."""
    order: torch.Generator
    """Order of the images in each epoch; on the CPU for the same reason."""
    augment: torch.Generator
    """Flips and crops; on the device of the images."""
    noise: tuple[torch.Generator, ...]
    """What a network draws while training, such as dropout and stochastic depth: on the CPU, and on the device."""


def make_generators(seed: int, device: torch.device) -> Generators:
    """The generators of the run with this seed."""

    def generator(stream: str, where: torch.device) -> torch.Generator:
        digest = hashlib.sha256(f"{run_seed(seed)}/{stream}".encode()).digest()
        return torch.Generator(where).manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    cpu = torch.device("cpu")
    noise = tuple(generator("noise", where) for where in dict.fromkeys((cpu, device)))
    return Generators(generator("init", cpu), generator("order", cpu), generator("augment", device), noise)


@contextmanager
def as_default(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Let whatever draws without a generator of its own draw from these, each on its device.

    A layer such as dropout knows torch's default generators alone, which all runs of a process share.
    """
    pairs = [(generator, _default(generator.device)) for generator in generators]
    states = [default.get_state() for _, default in pairs]
    for generator, default in pairs:
        default.set_state(generator.get_state())
    try:
        yield
    finally:
        for (generator, default), state in zip(pairs, states, strict=True):
            generator.set_state(default.get_state())
            default.set_state(state)


def _default(device: torch.device) -> torch.Generator:
    if device.type == "cpu":
        return torch.default_generator
    return torch.cuda.default_generators[device.index or 0]
