"""What is said of a network before it is trained: real steps of little networks, and all that can be wrong."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from tune_bn.errors import MethodError
from tune_bn.method.config import ModelConfig
from tune_bn.training.config import RunConfig, TrainConfig
from tune_bn.training.network_check import Batches, OneImageError, check_network, evaluation_batches

pytestmark = pytest.mark.usefixtures("one_thread")

OWN = """
import random
import sys
import numpy as np
import torch
from collections import namedtuple
from torch import nn
from torch.utils.checkpoint import checkpoint

class Net(nn.Module):
    def __init__(self, in_channels, num_classes, forward):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4)
        self.fc, self.own, self.calls = nn.Linear(4, num_classes), forward, 0
        self.noise = torch.zeros(64, 4)

    def forward(self, x):
        return self.own(self, self.norm(self.conv(x)))

def of(forward, change=lambda net: net):
    return lambda in_channels, num_classes: change(Net(in_channels, num_classes, forward))

def head(net, x):
    return net.fc(x.mean((2, 3)))

class BatchNormHead(nn.Sequential):
    def __init__(self, in_channels, num_classes):
        pool = nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        super().__init__(*pool, nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, num_classes))

def batchnorm_head(in_channels, num_classes):
    return BatchNormHead(in_channels, num_classes)

good = of(head)
reads = of(lambda net, x: head(net, x) if x.sum() > -1e9 else None)
changes_input = of(lambda net, x: head(net, x.mul_(2)))
checkpointed = of(lambda net, x: checkpoint(lambda y: head(net, y), x, use_reentrant=False))
hooked = of(head, lambda net: net.norm.register_forward_hook(lambda *_: None) and net)
parallel = of(head, nn.DataParallel)
softmax = of(lambda net, x: head(net, x).softmax(1))
log_softmax = of(lambda net, x: head(net, x).log_softmax(1))
sigmoid = of(lambda net, x: head(net, x).sigmoid())
drops = of(lambda net, x: head(net, nn.functional.dropout(x, training=net.training)))
talks = of(lambda net, x: print("hello") or head(net, x))
none = lambda in_channels, num_classes: nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
branches = of(lambda net, x: head(net, x) if x.sum() > 0 else x)

two = of(lambda net, x: (head(net, x), x))
two_in_eval = of(lambda net, x: head(net, x) if net.training else (head(net, x), x))
two_in_training = of(lambda net, x: [head(net, x), x] if net.training else head(net, x))
Outputs = namedtuple("GoogLeNetOutputs", "logits aux")
named = of(lambda net, x: Outputs(head(net, x), head(net, x)) if net.training else head(net, x))
mapping = of(lambda net, x: {"logits": head(net, x)})
nothing = of(lambda net, x: None)
maps = of(lambda net, x: x)
more_classes_in_eval = of(lambda net, x: head(net, x) if net.training else head(net, x).repeat(1, 2))
decided = of(lambda net, x: head(net, x).argmax(1, keepdim=True).expand(-1, 10))
frozen = of(head, lambda net: net.requires_grad_(False))
detached = of(lambda net, x: head(net, x).detach())
without_gradients = of(torch.no_grad()(head))
from_input = of(lambda net, x: torch.zeros(len(x), 10, requires_grad=True) + 1)
in_double = of(head, lambda net: net.double())
leaves = of(lambda net, x: sys.exit(3))
raises_in_eval = of(lambda net, x: head(net, x) if net.training else 1 / 0)
small = of(lambda net, x: head(net, nn.functional.conv2d(x, torch.ones(4, 4, 99, 99))))
of_two = of(lambda net, x: net.fc(x.mean((2, 3)).view(2, 4)))
at_most_64 = of(lambda net, x: net.fc(x.mean((2, 3)) + net.noise[: len(x)]))
squeezes = of(lambda net, x: head(net, x).squeeze())
in_fours = of(lambda net, x: net.fc(x.mean((2, 3)).view(len(x) // 2, 2, 4).flatten(0, 1)))
overwrites = of(lambda net, x: head(net, x.exp().mul_(2)))
tied = of(head, lambda net: setattr(net.fc, "bias", nn.Parameter(torch.zeros(10))) or net)

infinite = of(lambda net, x: head(net, x) / 0)
without_gamma = of(lambda net, x: net.fc(x.mean((2, 3)).detach()))
always_eval = of(head, lambda net: net.norm.requires_grad_(False) and net)
noisy = of(lambda net, x: head(net, x) + torch.rand(1))
from_numpy = of(lambda net, x: head(net, x) * np.random.rand() if net.training else head(net, x))
from_python = of(lambda net, x: head(net, x) * random.random() if net.training else head(net, x))
seeded = lambda in_channels, num_classes: torch.manual_seed(0) and good(in_channels, num_classes)

def keeps_statistics(net):
    net.norm.eval = lambda: net.norm
    net.norm.train = lambda mode=True: net.norm
    return net

learns_in_eval = of(head, keeps_statistics)

def drawn_elsewhere(in_channels, num_classes):
    net = good(in_channels, num_classes)
    net.fc.weight.data.mul_(np.random.rand())
    return net

def mutates(in_channels, num_classes):
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    return good(in_channels, num_classes)

class Extra(Net):
    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]

def extra_state(in_channels, num_classes):
    return Extra(in_channels, num_classes, head)

class Grows(Net):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("grid", None)

    def forward(self, x):
        self.grid = torch.zeros(1) if self.grid is None else self.grid
        return super().forward(x) + self.grid

def grows(in_channels, num_classes):
    return Grows(in_channels, num_classes, head)

def empty(in_channels, num_classes):
    with torch.device("meta"):
        return good(in_channels, num_classes)

compiled = of(head, torch.compile)

class Hidden(Net):
    def forward(self, x):
        self.calls += self.training
        return super().forward(x) * (1 + self.calls)

def hides_state(in_channels, num_classes):
    return Hidden(in_channels, num_classes, head)

def exits(in_channels, num_classes):
    sys.exit("no weights")
"""

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "users_own_tried.py").write_text(OWN)
    sys.path.append(str(folder))


def config_of(arch: str = "resnet8", train: TrainConfig | None = None, **options: object) -> RunConfig:
    model = {"arch": arch.replace("own:", "users_own_tried:")} | options
    return RunConfig(ModelConfig(**model), train=train or TrainConfig())  # type: ignore[arg-type]


def remarks_on(arch: str, batches: Batches | None = None, train: TrainConfig | None = None) -> str:
    return "\n".join(check_network(config_of(arch, train), SHAPE, 10, batches))


def problem_of(arch: str, batches: Batches | None = None, **options: object) -> str:
    with pytest.raises(MethodError) as caught:
        check_network(config_of(arch, **options), SHAPE, 10, batches)
    assert str(caught.value).startswith("model.")
    assert "; accepted: " in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


GOOD = "good reads log_softmax sigmoid changes_input checkpointed hooked parallel drops talks tied compiled"


@pytest.mark.parametrize("name", GOOD.split())
def test_good_networks_pass_without_a_remark(name: str) -> None:
    assert remarks_on(f"own:{name}", Batches((64, 3), (100, 1))) == ""


def test_a_network_that_ends_in_a_softmax_is_remarked() -> None:
    assert "sum to 1, like those of a softmax, but the loss takes them as logits" in remarks_on("own:softmax")


@pytest.mark.parametrize("arch", ["resnet8", "resnet18", "torchvision/shufflenet_v2_x0_5", "own:good", "own:reads"])
@pytest.mark.parametrize("norm", ["scaled", "rbn"])
def test_good_networks_pass_under_every_norm(arch: str, norm: str) -> None:
    assert check_network(config_of(arch, norm=norm, input_norm="dataset"), (1, 16, 16), 10) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"arch": "torchvision/resnet19"},
            "model.arch: got 'torchvision/resnet19'; accepted: torchvision/resnet18 (did",
        ),
        ({"arch": "torchvision/vit_b_16"}, "model.arch: got 'torchvision/vit_b_16': VisionTransformer without batch "),
        ({"arch": "torchvision/vgg11"}, "VGG without batch normalization; accepted: a network with at least one"),
        (
            {"arch": "torchvision/convnext_tiny"},
            "ConvNeXt without batch normalization (it has LayerNorm, LayerNorm2d);",
        ),
        ({"arch": "torchvision/vit_b_16", "norm": "rbn"}, "VisionTransformer without a BatchNorm2d to replace"),
        ({"arch": "own:none"}, "Sequential without batch normalization (it has LayerNorm); accepted"),
        ({"arch": "own:absent"}, "has no function absent"),
        (
            {"arch": "resnet8", "gamma": {"per_stage": [1.0, 0.1]}},
            "model.gamma.per_stage: got [1.0, 0.1]; accepted: 3 values, one for each",
        ),
        (
            {"arch": "torchvision/vgg11_bn", "gamma_branch_end": 0.0},
            "model.gamma_branch_end: got 0.0; accepted: None for",
        ),
        ({"arch": "own:branches", "gamma_branch_end": 0.0}, "Net, whose residual branches cannot be traced ("),
        ({"arch": "own:branches", "norm": "iebn", "plain_shortcuts": True}, "whose residual branches cannot be traced"),
        (
            {"arch": "torchvision/inception_v3"},
            "on images of 3×8×8; accepted: a network for such images, or images for this",
        ),
    ],
)
def test_what_cannot_be_built_or_treated_is_refused(options: dict[str, object], words: str) -> None:
    assert words in problem_of(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two", "whose output for 2 images is of tuple; accepted: a network that returns one tensor of shape (2, 10)"),
        ("two_in_eval", "whose output in evaluation mode for 2 images is of tuple; accepted: a network that returns"),
        ("two_in_training", "whose output for 2 images is of list;"),
        ("named", "whose output for 2 images is of GoogLeNetOutputs;"),
        ("mapping", "whose output for 2 images is of dict;"),
        ("nothing", "whose output for 2 images is of NoneType;"),
        ("maps", "whose output for 2 images is of shape (2, 4, 6, 6);"),
        ("more_classes_in_eval", "whose output in evaluation mode for 2 images is of shape (2, 20);"),
        ("decided", "whose output for 2 images is of type int64;"),
        ("frozen", "in which nothing learns (no parameter has requires_grad=True)"),
        ("detached", "no parameter gets a gradient from its output"),
        ("without_gradients", "no parameter gets a gradient from its output"),
        ("from_input", "no parameter gets a gradient from its output"),
        ("in_double", "on images of 3×8×8; accepted: a network for such images"),
        ("leaves", "which raised SystemExit: 3 on images of 3×8×8"),
        ("raises_in_eval", "which raised ZeroDivisionError: division by zero in evaluation mode on images of 3×8×8"),
        ("grows", 'Unexpected key(s) in state_dict: "grid"'),
        ("empty", "Cannot copy out of meta tensor; no data"),
        ("extra_state", "whose state_dict after a step a new one cannot load (it raised AttributeError"),
        ("overwrites", "has been modified by an inplace operation"),
        ("small", "Kernel size can't be greater than actual input size on images of 3×8×8"),
        ("exits", "which raised SystemExit: no weights; accepted: a function that returns"),
    ],
)
def test_what_cannot_be_trained_or_evaluated_is_said_in_one_line(name: str, words: str) -> None:
    assert words in problem_of(f"own:{name}")


@pytest.mark.parametrize("name", ["frozen", "detached"])
def test_the_layer_before_the_network_alone_is_not_enough_to_learn(name: str) -> None:
    assert "nothing learns" in problem_of(f"own:{name}", input_norm="bn")


@pytest.mark.parametrize(
    ("name", "batches", "words"),
    [
        ("of_two", Batches((64,)), "on a batch of 64 images of 3×8×8; accepted: a network that takes any number"),
        ("at_most_64", Batches((64,), (100,)), "in evaluation mode on a batch of 100 images of 3×8×8"),
        ("in_fours", Batches((64, 3)), "on a batch of 3 images"),
        ("squeezes", Batches((64,), (100, 1)), "whose output in evaluation mode for 1 image is of shape (10,);"),
    ],
)
def test_every_size_of_a_batch_that_will_come_is_tried(name: str, batches: Batches, words: str) -> None:
    assert words in problem_of(f"own:{name}", batches)
    assert remarks_on(f"own:{name}", Batches((2,), (2,))) == ""


def test_large_batches_are_tried_without_computing_them() -> None:
    # 10⁶ images of this size would be hundreds of megabytes, and their activations more.
    assert remarks_on("own:good", Batches((1_000_000,), (1_000_000,))) == ""
    assert "on a batch of 1000001 images of 3×8×8" in problem_of("own:in_fours", Batches((1_000_001,)))


@pytest.mark.parametrize("arch", ["own:batchnorm_head", "resnet18"])
def test_a_batch_of_one_image_is_tried_where_it_may_come(arch: str) -> None:
    config = config_of(arch, stem="small" if ":" in arch else "imagenet")
    assert check_network(config, SHAPE, 10, Batches((64, 2))) == []
    with pytest.raises(
        OneImageError, match=r"Expected more than 1 value per channel .* on a batch of 1 image of 3×8×8"
    ):
        check_network(config, SHAPE, 10, Batches((64, 1)))
    assert remarks_on("own:good", Batches((64, 1))) == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("infinite", "its loss on noise is not finite at the first step"),
        ("without_gamma", "no γ of a BN layer gets a gradient, so γ keeps its initial value and c changes nothing"),
        ("always_eval", "no γ of a BN layer gets a gradient"),
        ("noisy", "evaluated twice it gives two answers"),
        ("learns_in_eval", "evaluation changes norm.running_mean"),
        ("from_numpy", "while training it draws from NumPy or Python's random"),
        ("from_python", "while training it draws from NumPy or Python's random"),
        ("seeded", "its initial weights are the same for every seed"),
        ("mutates", "its initial weights are the same for every seed"),
        ("hides_state", "its state_dict does not hold all that it learns"),
        ("drawn_elsewhere", "its initial weights do not depend on torch's seed alone"),
    ],
)
def test_what_is_accepted_but_should_be_known_is_remarked(name: str, words: str) -> None:
    (line,) = [line for line in remarks_on(f"own:{name}").splitlines() if words in line]
    assert line.startswith(f"users_own_tried:{name}: ")


def test_a_gamma_that_is_frozen_by_the_user_is_no_surprise() -> None:
    assert remarks_on("own:without_gamma", train=TrainConfig(freeze_gamma=True)) == ""


def test_a_network_is_tried_in_the_precision_of_its_runs() -> None:
    assert remarks_on("own:good", train=TrainConfig(precision="bf16")) == ""
    assert "nothing learns" in problem_of("own:frozen", train=TrainConfig(precision="bf16"))


def test_a_tensor_that_stays_on_the_cpu_is_remarked_where_a_gpu_is_wanted() -> None:
    config = config_of("own:at_most_64")
    assert check_network(config, SHAPE, 10) == []
    (line,) = check_network(config, SHAPE, 10, gpu=True)
    assert "a tensor of its own stays on the CPU" in line
    assert check_network(config_of("own:good"), SHAPE, 10, gpu=True) == []
    assert check_network(config_of("own:reads"), SHAPE, 10, gpu=True) == []


def test_nothing_is_left_behind(capfd: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    for name in ("talks", "mutates", "from_numpy"):
        remarks_on(f"own:{name}")
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), repr(np.random.get_state())) == state[1:]  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


def test_splits_are_evaluated_in_batches_of_bounded_size() -> None:
    assert evaluation_batches((3, 32, 32), 5000, 2048, gpu=True) == (1024, 904)
    assert evaluation_batches((1, 8, 8), 600, 897, gpu=True) == (600, 897)
    assert evaluation_batches((3, 224, 224), 21, 40, gpu=True) == (20, 1)


def test_a_cpu_takes_a_batch_of_an_evaluation_in_pieces() -> None:
    assert evaluation_batches((3, 32, 32), 5000, 2048) == (128, 8)
    assert evaluation_batches((1, 8, 8), 600, 897) == (256, 88, 129)
    assert evaluation_batches((3, 224, 224), 21, 40) == (2, 1)
