"""Networks by name: torchvision's, and those of users with all that can be wrong with them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torchvision import models

from tune_bn.errors import MethodError
from tune_bn.method.config import ModelConfig
from tune_bn.method.networks import dry_run, load_weights, make_network
from tune_bn.method.user_network import call_user_network, load_function, source_sha256, source_trees

_numbers = itertools.count()

NETWORK = """
import torch
from torch import nn
from torch.nn.parameter import is_lazy

def net(in_channels, num_classes, width=4):
    layers = nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a module into the current folder; returns its name, which no other test uses."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def module(text: str = NETWORK, package: str = "") -> str:
        name = f"users_own_{next(_numbers)}"
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        return f"{package}.{name}" if package else name

    return module


def built(arch: str, in_channels: int = 3, seed: int = 0, **options: str) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return make_network(ModelConfig(arch=arch, **options), in_channels, 7, generator)


def without_values(arch: str, in_channels: int = 3, **options: str) -> nn.Module:
    return dry_run(ModelConfig(arch=arch, **options), in_channels, 7, lambda network: network)


def shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


# --- torchvision


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "efficientnet_b0", "vgg11_bn", "googlenet", "maxvit_t"])
def test_a_network_of_torchvision_is_the_one_of_that_name(name: str) -> None:
    network = without_values(f"torchvision/{name}")
    assert all(parameter.is_meta for parameter in network.parameters())
    with torch.device("meta") if name != "regnet_y_400mf" else torch.device("cpu"):
        options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
        theirs = models.get_model(name, num_classes=7, **options)
    assert type(network) is type(theirs)
    assert shapes(network) == shapes(theirs)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name: str, recwarn: pytest.WarningsRecorder) -> None:
    network = without_values(f"torchvision/{name}").train()
    assert network(torch.empty(2, 3, 96, 96, device="meta")).shape == (2, 7)
    assert not recwarn


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11_bn", "inception_v3"])
@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_takes_other_images(name: str, channels: int) -> None:
    network = without_values(f"torchvision/{name}", channels)
    assert network.train()(torch.empty(2, channels, 96, 96, device="meta")).shape == (2, 7)
    rgb = shapes(without_values(f"torchvision/{name}"))
    assert len([key for key, shape in shapes(network).items() if shape != rgb[key]]) == 1


def test_the_filters_of_other_images_are_those_of_rgb_in_turn() -> None:
    rgb = built("torchvision/mobilenet_v3_small").features[0][0].weight
    for channels in (1, 2, 5):
        weight = built("torchvision/mobilenet_v3_small", channels).features[0][0].weight
        assert isinstance(weight, nn.Parameter)
        assert torch.equal(weight, rgb[:, [0, 1, 2, 0, 1][:channels]])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet19", "accepted: torchvision/resnet18 (did you mean it?), or torchvision/NAME with a NAME of"),
        ("ResNet50", "accepted: torchvision/resnet50 (did you mean it?)"),
        ("xyz", "accepted: torchvision/NAME with a NAME of torchvision.models.list_models(torchvision.models)"),
        ("fcn_resnet50", "accepted: torchvision/"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest(name: str, words: str) -> None:
    with pytest.raises(MethodError) as caught:
        without_values(f"torchvision/{name}")
    assert str(caught.value).startswith(f"model.arch: got 'torchvision/{name}'; accepted: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_stem_for_large_images_is_torchvisions(channels: int) -> None:
    ours = shapes(without_values("resnet18", channels, stem="imagenet"))
    assert ours == shapes(without_values("torchvision/resnet18", channels))
    small = shapes(without_values("resnet18", channels))
    assert {key for key in ours if ours[key] != small[key]} == {"conv1.weight"}
    assert ours["conv1.weight"] == (64, channels, 7, 7)
    network = without_values("resnet18", channels, stem="imagenet")
    halved = network.layer1(network.maxpool(network.conv1(torch.empty(1, channels, 64, 64, device="meta"))))
    assert halved.shape == (1, 64, 16, 16)


# --- initial values


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p for p in model.parameters() if p.ndim > 1]


@pytest.mark.parametrize("arch", ["torchvision/shufflenet_v2_x0_5", "own"])
def test_a_seed_determines_a_networks_own_initial_values(arch: str, write: Callable[..., str]) -> None:
    arch = f"{write()}:net" if arch == "own" else arch
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = weights(built(arch, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    two, other = weights(built(arch, seed=1)), weights(built(arch, seed=2))
    assert all(map(torch.equal, one, two))
    assert not any(map(torch.equal, one, other))


def test_torchvisions_initial_values_are_not_the_papers() -> None:
    ours, theirs = built("resnet18", stem="imagenet"), built("torchvision/resnet18")
    # Kaiming normal: fan-in in the paper's code, fan-out in torchvision's.
    assert ours.layer2[0].conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert theirs.layer2[0].conv1.weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not ours.fc.bias.any()
    assert theirs.fc.bias.any()


# --- a function of the user's


def test_a_function_of_the_current_folder_is_called(write: Callable[..., str]) -> None:
    network = call_user_network(f"{write()}:net", in_channels=2, num_classes=5)
    assert network(torch.zeros(2, 2, 6, 6)).shape == (2, 5)
    inside = write("from .parts import net\n", package="users_package")
    Path("users_package/parts.py").write_text(NETWORK)
    assert isinstance(call_user_network(f"{inside}:net", 1, 2), nn.Sequential)


def test_a_class_and_a_partial_are_functions_too(write: Callable[..., str]) -> None:
    name = write(
        f"{NETWORK}\nfrom functools import partial\nwide = partial(net, width=8)\n"
        "class Net(nn.Module):\n    def __init__(self, in_channels, num_classes):\n        super().__init__()\n"
    )
    assert call_user_network(f"{name}:wide", 1, 2)[0].out_channels == 8
    assert type(call_user_network(f"{name}:Net", 1, 2)).__name__ == "Net"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def nets(): pass", "has no function net; accepted: {name}:nets (did you mean it?), or one of its own"),
        ("net = 3", "has no function net; accepted: one of its own"),
        (
            "def net(in_channels): pass",
            "which takes other arguments (got an unexpected keyword argument 'num_classes')",
        ),
        (
            "def net(in_channels, num_classes, depth): pass",
            "takes other arguments (missing a required argument: 'depth')",
        ),
        ("def net(**k): raise KeyError('a\\nb')", "which raised KeyError: 'a\\nb'; accepted: a function that returns"),
        ("def net(**k): raise OSError('a\\nb')", "which raised OSError: a; accepted: a function that returns"),
        ("def net(**k): raise AssertionError", "which raised AssertionError; accepted: a function that returns"),
        (
            "def net(**k): return 1",
            "which returned int; accepted: a function that returns a torch.nn.Module when called",
        ),
        (
            "def net(**k): pass",
            "returned NoneType; accepted: a function that returns a torch.nn.Module when called as net(",
        ),
        (
            "import there_is_none",
            "importing {name} raised ModuleNotFoundError: No module named 'there_is_none'; accepted",
        ),
        (
            "1 / 0",
            "importing {name} raised ZeroDivisionError: division by zero; accepted: a module that can be imported",
        ),
        ("def net(", "importing {name} raised SyntaxError: "),
        ("raise SystemExit(3)", "importing {name} raised SystemExit: 3; accepted: a module that can be imported"),
    ],
)
def test_what_is_wrong_with_a_function_is_said_in_one_line(write: Callable[..., str], text: str, words: str) -> None:
    name = write(text)
    with pytest.raises(MethodError) as caught:
        call_user_network(f"{name}:net", 1, 2)
    message = str(caught.value)
    assert message.startswith(f"model.arch: got '{name}:net', ")
    assert words.format(name=name) in message
    assert "\n" not in message


@pytest.mark.parametrize(("module", "missing"), [("there_is_none", "there_is_none"), ("json.none.a", "json.none")])
def test_a_module_that_is_nowhere_is_named(write: Callable[..., str], module: str, missing: str) -> None:
    with pytest.raises(
        MethodError, match=rf"there is no module {missing}; accepted: a module in the current folder \(/"
    ):
        load_function(f"{module}:net")


@pytest.mark.parametrize("file", ["colorsys.py", "colorsys/__init__.py"])
@pytest.mark.parametrize("function", ["colorsys:rgb_to_hsv", "colorsys:net", "colorsys.parts:net"])
def test_installed_modules_go_before_those_of_the_current_folder_which_is_said(
    write: Callable[..., str], file: str, function: str
) -> None:
    write()
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("raise SystemExit")
    sys.modules.pop("colorsys", None)
    with pytest.raises(
        MethodError, match=rf"colorsys is an installed module \(/.*/colorsys\.py\), which .*/{file}; acc"
    ):
        load_function(function)
    Path(file).unlink()
    assert load_function("colorsys:rgb_to_hsv")(0, 0, 0) == (0, 0, 0)


def test_the_hash_follows_the_files_that_are_named(write: Callable[..., str]) -> None:
    name = write()
    first = source_sha256([f"{name}:net"])
    assert source_sha256([f"{name}:net"]) == first
    Path(f"{name}.py").write_text(NETWORK + "# changed\n")
    assert source_sha256([f"{name}:net"]) != first
    door = write(f"from {name} import net\n")
    before = source_sha256([f"{door}:net"])
    Path(f"{name}.py").write_text(NETWORK + "# changed again\n")
    assert source_sha256([f"{door}:net"]) != before
    both = [f"{name}:net", f"{door}:net"]
    assert source_sha256(both) == source_sha256(both[::-1]) != source_sha256(both[:1])


def test_a_partial_has_the_hash_of_its_module(write: Callable[..., str]) -> None:
    name = write("from functools import partial\nnet = partial(dict)\n")
    first = source_sha256([f"{name}:net"])
    Path(f"{name}.py").write_text("")
    assert source_sha256([f"{name}:net"]) != first


def test_what_other_machines_need_is_the_file_or_the_package(write: Callable[..., str]) -> None:
    assert source_trees(f"{(name := write())}:net") == [Path(f"{name}.py").absolute()]
    assert source_trees(f"{write(package='users_package_2')}:net") == [Path("users_package_2").absolute()]
    assert source_trees("torchvision.models:resnet18") == []


def test_other_machines_need_what_is_imported_from_beside_it_too(write: Callable[..., str]) -> None:
    name = write(f"import os, json, torch, absent_users\nimport users_first\n{NETWORK}")
    Path("absent_users.py").write_text("")
    Path("users_first.py").write_text("def late():\n    from users_second.parts import x\n")
    Path("users_second").mkdir()
    Path("users_second/parts.py").write_text("import users_first\nimport users_broken\n")
    Path("users_broken.py").write_text("def (")
    Path("users_other.py").write_text("")
    for shadow in ("json", "torch", "tune_bn"):
        Path(f"{shadow}.py").write_text("raise SystemExit")
    found = source_trees(f"{name}:net")
    assert found[0] == Path(f"{name}.py").absolute()
    assert {path.name for path in found[1:]} == {"absent_users.py", "users_first.py", "users_second", "users_broken.py"}


# --- without values


def test_a_network_that_needs_its_values_is_built_on_the_cpu(write: Callable[..., str]) -> None:
    name = write(
        "from torch import nn\n"
        "def net(in_channels, num_classes):\n"
        "    layer = nn.Conv2d(in_channels, 4, 1)\n"
        "    assert layer.weight.std().item() > 0\n"
        "    return layer\n"
    )
    assert not without_values(f"{name}:net").weight.is_meta


def test_no_value_is_drawn_from_the_global_generator(write: Callable[..., str]) -> None:
    name = write(
        "import torch\nfrom torch import nn\ndef net(**k):\n    torch.rand(3)\n    return nn.Conv2d(1, 1, 1)\n"
    )
    state = torch.get_rng_state()
    without_values(f"{name}:net")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["mnasnet0_5", "mobilenet_v3_small"])
def test_copied_weights_are_loaded_again(name: str) -> None:
    """MNASNet refuses a state dict without the versions of its modules, and copies have none."""
    source, target = built(f"torchvision/{name}", seed=1), built(f"torchvision/{name}", seed=2)
    copied = {key: value.clone() for key, value in source.state_dict().items()}
    load_weights(target, copied)
    assert all(torch.equal(value, copied[key]) for key, value in target.state_dict().items())
    del copied["classifier.1.bias" if name == "mnasnet0_5" else "classifier.3.bias"]
    with pytest.raises(RuntimeError, match="Missing key"):
        load_weights(target, copied)


LAZY = """
import torch
from torch import nn
from torch.nn.parameter import is_lazy

class Net(nn.Module):
    def __init__(self, classes, auxiliary):
        super().__init__()
        self.body = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Dropout(0.5), nn.Flatten())
        self.head, self.auxiliary = nn.LazyLinear(classes), nn.LazyLinear(classes) if auxiliary else None
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        x = self.body(x)
        return self.head(x) + (self.auxiliary(x) if self.training and self.auxiliary is not None else 0)

def net(in_channels, num_classes):
    return Net(num_classes, False)

def auxiliary(in_channels, num_classes):
    return Net(num_classes, True)

def unused(in_channels, num_classes):
    network = Net(num_classes, False)
    network.spare = nn.LazyLinear(3)
    return network

def small(in_channels, num_classes):
    return nn.Sequential(nn.LazyConv2d(4, 9), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(num_classes))
"""


def built_lazily(arch: str, seed: int = 0, size: tuple[int, int] = (8, 8)) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return make_network(ModelConfig(arch=arch), 3, 7, generator, size)


@pytest.mark.parametrize("function", ["net", "auxiliary"])
def test_lazy_layers_get_shapes_and_values_from_the_seed(write: Callable[..., str], function: str) -> None:
    name = write(LAZY)
    network = built_lazily(f"{name}:{function}")
    assert shapes(network)["body.0.weight"] == (4, 3, 3, 3)
    assert shapes(network)["head.weight"] == (7, 4 * 6 * 6)
    assert network.training
    assert all(module.training for module in network.modules())
    # The dry run leaves no trace in buffers.
    assert float(network.calls) == 0
    assert network.body[1].num_batches_tracked == 0
    assert not network.body[1].running_mean.any()
    torch.rand(5)
    again, other = built_lazily(f"{name}:{function}"), built_lazily(f"{name}:{function}", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(network.head.weight, other.head.weight)
    assert shapes(built_lazily(f"{name}:{function}", size=(10, 9)))["head.weight"] == (7, 4 * 8 * 7)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("unused", "whose spare.weight has no shape after a forward pass; accepted: lazy layers that"),
        ("small", "whose lazy layers get no shape, since it raised RuntimeError"),
    ],
)
def test_lazy_layers_that_get_no_shape_are_refused(write: Callable[..., str], function: str, words: str) -> None:
    with pytest.raises(MethodError) as caught:
        built_lazily(f"{write(LAZY)}:{function}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lazy_network_is_counted_too(write: Callable[..., str]) -> None:
    arch = f"{write(LAZY)}:net"
    parameters = dry_run(ModelConfig(arch=arch), 3, 7, lambda network: list(network.parameters()), (8, 8))
    assert not any(is_lazy(parameter) for parameter in parameters)
