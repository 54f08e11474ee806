"""What the built-in loop looks at before anything starts: its data, its networks, and the sizes of their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from tune_bn.data.cache import Progress
from tune_bn.data.dataset import DataSummary, describe_data, read_data
from tune_bn.data.registry import source_of
from tune_bn.errors import DataError
from tune_bn.protocols.trainer import Cost, Described, Door
from tune_bn.space.distributions import CASES
from tune_bn.space.messages import spec_words
from tune_bn.space.possible_runs import BatchSizes, PossibleRuns, possible_runs, single_run
from tune_bn.space.space import Space
from tune_bn.trainers.builtin_cost import decides_pace, estimated_cost, optimizer_steps
from tune_bn.training.config import RunConfig

SMALL_GAMMA, SHORT_STEPS = 0.2, 1200
"""The longest course in which γ = 0.1 at c = 100 was seen to be behind γ = 1 for no other reason than its late start:
5,000 images of CIFAR-10, 30 epochs of 40 steps."""

FEW_IMAGES = 100
"""Below so many images one is more than a percentage point."""


class BuiltinDoor:
    """A :class:`tune_bn.protocols.trainer.Door` of the loop of :mod:`tune_bn.training`."""

    def __init__(self, space: Space, meanwhile: Callable[[], None] | None = None) -> None:
        self.space = space
        self._meanwhile = meanwhile

    @cached_property
    def data(self) -> DataSummary:
        """The data, without reading images."""
        return describe_data(self.space.data)

    def check(self, remark: Callable[[str], None], *, single: RunConfig | None = None) -> Sequence[str]:
        """See the protocol.

        Raises:
            DataError: the data is missing or does not fit.
            MethodError: a network does not exist, cannot be treated as asked, or cannot be trained on the images.
        """
        data = self.data
        found = [*([] if single is None else [single_run(single)]), *possible_runs(self.space)]
        for sizes in dict.fromkeys(runs.sizes for runs in found):
            for size in sizes.leaving_one(data.train_size)[0]:
                raise DataError(
                    f"{sizes.place}: got {size}, which leaves a last batch of one of {data.train_size} images; "
                    "accepted: a size that leaves none or more, since batch norm cannot normalize one image"
                    f"{_other_size(sizes, data)}"
                )
        # Networks need torch.
        if self._meanwhile is not None:
            self._meanwhile()
        for line in dict.fromkeys(_check_networks(self.space, found, data)):
            remark(line)
        return data.remarks

    def describe(self) -> Described:
        """See the protocol."""
        space, data = self.space, self.data
        shape = "×".join(str(side) for side in data.image_shape)
        return Described(
            what=(
                f"model      {space.model.arch}, norm {space.model.norm}, input norm {space.model.input_norm}",
                f"data       {space.data.source}: {data.train_size:,} train, {data.val_size:,} validation, "
                f"{data.test_size:,} test images of {shape}, {data.num_classes} classes",
                *(f"           {remark}" for remark in data.remarks),
            ),
            run=f"{space.train.epochs} epochs, batch {space.train.batch_size}, {space.train.precision}",
            remarks=(*_slow_precision(space), *_short_course(space, data), *_few_images(data)),
            not_tried=() if source_of(space.data.source).arrays else ("whether every image can be read (--data)",),
        )

    @property
    def steps(self) -> int:
        """See the protocol."""
        return self.space.train.epochs

    def cost(self, measure: bool | None) -> Cost | None:
        """See the protocol."""
        return estimated_cost(self.space, self.data, measure)

    def paced_as(self, other: Door) -> bool:
        """See the protocol."""
        return isinstance(other, BuiltinDoor) and decides_pace(self.space) == decides_pace(other.space)

    def read(self, progress: Progress | None) -> Sequence[str]:
        """See the protocol.

        Raises:
            DataError: images cannot be read, or used; all of them are counted.
        """
        count, remarks = read_data(self.space.data, progress=progress)
        lines = [f"images     all {count:,} can be read", *(f"           {remark}" for remark in remarks)]
        return [*lines, *["           none occurs in two splits or in two classes"] * (not remarks)]


def _other_size(sizes: BatchSizes, data: DataSummary) -> str:
    count = sizes.images_that_leave_none(data.train_size, data.num_classes)
    return "" if count is None else f"; or data.train_size={count}"


def _check_networks(space: Space, found: Sequence[PossibleRuns], data: DataSummary) -> Iterator[str]:
    """Try each network once; yields remarks."""
    from tune_bn.training.network_check import Batches, OneImageError, check_network, evaluation_batches

    gpu = space.resources.gpu > 0
    evaluation = evaluation_batches(data.image_shape, data.val_size, data.test_size, gpu=gpu)
    checked, sized = set[str](), set[tuple[str, BatchSizes]]()
    for runs in found:
        model, train, sizes = runs.config.model, runs.config.train, runs.sizes
        # Any network takes any single number.
        model = model if isinstance(model.gamma, dict) else replace(model, gamma=1.0)
        key = repr((model, train.precision, train.freeze_gamma, train.c_beta == 1, sizes))
        if key in checked:
            continue
        checked.add(key)
        config = RunConfig(model, runs.config.data, train)
        _, inside = sizes.leaving_one(data.train_size)
        batches = Batches((*sizes.batches(data.train_size), *([1] if inside else [])), evaluation)
        which = ", ".join(map(str, inside[:5])) + (", …" if len(inside) > 5 else "")
        alone = f"leaves a last batch of one of {data.train_size} images"
        try:
            # How many images a network takes is no matter of its layers' kind.
            wanted = None if (model.arch, sizes) in sized else batches
            yield from check_network(config, data.image_shape, data.num_classes, wanted, gpu=gpu)
            sized.add((model.arch, sizes))
        except OneImageError as error:
            if not inside:
                raise
            spec = space.search["batch_size"]
            words = CASES if CASES in spec else spec_words(spec)
            raise DataError(
                f"search.batch_size: got {words}, of which {which} {alone}, on which {model.arch} raised "
                f"{error.words}; accepted: sizes that leave none or more{_other_size(sizes, data)}"
            ) from error
        if inside:
            yield f"search.batch_size: {which} {alone}, which batch norm normalizes alone{_other_size(sizes, data)}"


def _short_course(space: Space, data: DataSummary) -> Sequence[str]:
    """A line where a small γ may only be late: it grows from step to step, and begins to learn once it has grown."""
    asked = [arm.get("gamma") for arm in space.claim.arms.values()]
    if "gamma" in space.distributions:
        asked += space.distributions["gamma"].corners
    gammas = [gamma for gamma in asked if isinstance(gamma, int | float) and gamma < SMALL_GAMMA]
    shortest = {"epochs": space.train.epochs, "batch_size": space.train.batch_size}
    epochs, batch = (
        (min if key == "epochs" else max)(space.distributions[key].corners) if key in space.distributions else value
        for key, value in shortest.items()
    )
    steps = optimizer_steps(epochs, data.train_size, batch)
    if not gammas or steps > SHORT_STEPS:
        return ()
    return (
        f"{steps:,} optimizer steps may be too few for γ = {min(gammas):g}: a network with a small γ begins to "
        "learn late (how late: docs/curves.md)",
    )


def _few_images(data: DataSummary) -> Sequence[str]:
    """A line where one image is more than a point: trials are then chosen, or arms compared, by very little."""
    few = [
        f"{count} {split} images {what}: one of them is {100 / count:.2g} points"
        for split, count, what in (("validation", data.val_size, "choose"), ("test", data.test_size, "decide"))
        if 0 < count < FEW_IMAGES
    ]
    return ("; ".join(few),) if few else ()


def _slow_precision(space: Space) -> Sequence[str]:
    """A line where the precision makes runs slower instead of faster."""
    if space.train.precision != "bf16" or space.resources.gpu:
        return ()
    from tune_bn.training.precision import bf16_is_emulated

    if not bf16_is_emulated():
        return ()
    return ("this CPU has no bfloat16 arithmetic: bf16 is several times slower here than fp32",)
