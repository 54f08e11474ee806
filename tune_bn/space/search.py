"""What a search proposes: the section ``search`` of the space file, and the configurations that it tries first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from tune_bn.errors import ConfigError
from tune_bn.method.config import gamma_parts
from tune_bn.protocols.distributions import Cases, Choice, Distribution
from tune_bn.space.distributions import parse_search

PAPER_GAMMAS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
PAPER_C = 100.0
# A short search gets what learns in a short course first: the smallest γ's start slowly, and are tried last.
PAPER_GRID = tuple({"gamma": gamma, "c": PAPER_C} for gamma in (0.1, 0.25, 0.5, 0.05, 1.0, 0.75, 0.01))

Point = Mapping[str, Any]


def owner(name: str) -> str:
    """The declared key that a name of a distribution belongs to: ``gamma`` of ``gamma.2``."""
    return name.partition(".")[0]


class SearchSpace:
    """The searched keys with their distributions.

    Args:
        search: the section of the space file.
        arch: the network, or None where it is searched.

    Raises:
        ConfigError: a distribution is not acceptable.
    """

    def __init__(self, search: Mapping[str, Any], arch: str | None) -> None:
        self.search = search
        self.distributions: dict[str, Distribution] = parse_search(search, arch)

    def only(self, keys: Sequence[str]) -> SearchSpace:
        """The part of the search over these keys."""
        return SearchSpace({key: self.search[key] for key in keys}, None)

    def check_point(self, place: str, point: Point) -> None:
        """Raise :class:`ConfigError` where a start point is no point of this space."""
        for key, value in point.items():
            if key not in self.search:
                raise ConfigError(f"{place}.{key}", value, f"searched keys: {', '.join(self.search)}")
        for name, value in self._parts(point).items():
            if name not in self.distributions or not self._contains(name, value, point):
                raise ConfigError(
                    f"{place}.{owner(name)}", point[owner(name)], f"a value of {self.search[owner(name)]}"
                )

    def start_points(self, points: Sequence[Point]) -> list[dict[str, Any]]:
        """These points by the names of the distributions, restricted to what is searched, without repetitions.

        A point that would lose a coordinate to a narrower range is left out: it is no longer that point. Where the
        range of a coordinate depends on a key that the point does not name, the point is tried with every value of it.
        """
        kept: list[dict[str, Any]] = []
        for point in points:
            for whole in self._with_conditions(self._parts(point)):
                if whole and all(self._contains(name, value, whole) for name, value in whole.items()):
                    kept += [whole] if whole not in kept else []
        return kept

    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the choices; where γ and c are searched, γ takes the paper's values and c its 100.

        Raises:
            ConfigError: another key has a range.
        """
        values = {name: self._grid_values(name, found) for name, found in self.distributions.items()}
        combinations = [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]
        return [point for point in combinations if all(self._contains(n, v, point) for n, v in point.items())]

    def _grid_values(self, name: str, distribution: Distribution) -> tuple[Any, ...]:
        if isinstance(distribution, Choice):
            return distribution.values
        paper = {"gamma": PAPER_GAMMAS, "c": (PAPER_C,)}.get(owner(name), ())
        found = tuple(value for value in paper if distribution.contains(value))
        if not found:
            key = owner(name)
            raise ConfigError(f"search.{key}", self.search[key], "a choice, since the sampler is grid")
        return found

    def _parts(self, point: Point) -> dict[str, Any]:
        """A point by the names of the distributions, as far as it is searched; one γ stands for each of its parts."""
        parts: dict[str, Any] = {}
        for key, value in point.items():
            if key == "gamma" and isinstance(value, Mapping):
                parts |= gamma_parts(dict(value))
            elif key == "gamma" and "gamma" not in self.distributions:
                parts |= {name: value for name in self.distributions if owner(name) == "gamma"}
            elif key in self.search:
                parts[key] = value
        return parts

    def _with_conditions(self, parts: dict[str, Any]) -> Iterator[dict[str, Any]]:
        found = (self.distributions.get(name) for name in parts)
        missing = {item.key for item in found if isinstance(item, Cases)} - set(parts)
        choices = {key: self.distributions[key].corners for key in sorted(missing)}
        for values in product(*choices.values()):
            yield parts | dict(zip(choices, values, strict=True))

    def _contains(self, name: str, value: Any, point: Point) -> bool:
        distribution = self.distributions.get(name)
        if isinstance(distribution, Cases) and distribution.key in point:
            distribution = distribution.given(point[distribution.key])
        return distribution is not None and distribution.contains(value)
