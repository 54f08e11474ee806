"""The samplers that a space may name. Loads no Optuna: a sampler is made by its row's function when a search begins."""

from __future__ import annotations

from dataclasses import dataclass

from tune_bn.host.extensions import Table


@dataclass(frozen=True)
class SamplerKind:
    """One of Optuna's samplers: a row of :data:`SAMPLERS`."""

    name: str
    doc: str
    make: str
    """``package.module:function`` that returns an ``optuna.samplers.BaseSampler``. It is called anew for each trial and
    for each key that is drawn by itself, with ``distributions`` (by searched key), ``seed`` (of the search) and
    ``own_seed`` (of this trial or key; the same in a resumed search)."""
    sequence: bool = False
    """Whether its points are a sequence that must be drawn as a whole, by the seed of the search."""


_KINDS = "tune_bn.samplers.optuna.kinds"

SAMPLERS = Table(
    "tune_bn.samplers",
    SamplerKind,
    SamplerKind("tpe", "tree-structured Parzen estimators, multivariate", f"{_KINDS}:tpe"),
    SamplerKind("gp", "a Gaussian process with the noise of one seed", f"{_KINDS}:gp"),
    SamplerKind("cmaes", "CMA-ES", f"{_KINDS}:cmaes"),
    SamplerKind("qmc", "a scrambled Sobol sequence", f"{_KINDS}:qmc", sequence=True),
    SamplerKind("random", "uniform draws", f"{_KINDS}:random"),
    SamplerKind("grid", "every combination of choices, and of γ and c the paper's values", f"{_KINDS}:random"),
)
"""By name. Packages add rows by entry points of the group ``tune_bn.samplers``."""
