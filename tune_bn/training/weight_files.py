"""Weights from files of other people's making: found by the names of the network that they are for.

Nothing in a file is executed: pickles are read with ``weights_only=True``, safetensors and ``.npz`` hold plain numbers.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import re
import types
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from tune_bn.errors import MethodError, listed, own_fault

ACCEPTED = (
    "a state dict, alone or within a dict (state_dict, model_state_dict, model, net, …), as torch.save, safetensors or "
    "numpy.savez write it, or checkpoints/RUN/latest.pt of a study"
)
DEPTH = 4
"""How many dicts deep a state dict is looked for."""
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a name that torch.compile, FSDP and activation checkpointing put anywhere in it."""
AVERAGED = re.compile(r"(^|[._])(ema|averaged?|swa|teacher|momentum|target)([._]|$)", re.IGNORECASE)
"""Weights beside those that were trained: taken where there are no others."""
LARGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class _Inert(dict[str, Any]):
    """Stands for an object beside the weights, such as the options of a script, whatever state it is given."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


def _new_dict(*_: Any) -> OrderedDict[str, Any]:
    return OrderedDict()


def _harmless() -> list[Any]:
    """What checkpoints hold besides tensors and plain values, and what executes nothing when it is made."""
    dicts = [
        *("lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"),
        *("pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict"),
    ]
    stand_ins = [
        *(f"{kind.__module__}.{kind.__qualname__}" for kind in (argparse.Namespace, types.SimpleNamespace)),
        *(f"pathlib.{name}" for name in pathlib.__all__),
        *(f"pathlib._local.{name}" for name in pathlib.__all__),
    ]
    numbers: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU")]
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        # NumPy 1 and 2 name their own functions differently, and each writes its own name.
        numbers += [(multiarray.scalar, f"{home}.scalar")]
        numbers += [(multiarray._reconstruct, f"{home}._reconstruct")]
    # The reader fills dicts of these two types alone.
    filled: list[Any] = [*((OrderedDict, name) for name in dicts), (_new_dict, "collections.defaultdict")]
    plain: list[Any] = [list, dict, set, int, float, bool, str]
    return [*numbers, *plain, *filled, *((_Inert, name) for name in stand_ins)]


def read_weight_file(file: Path) -> Any:
    """What a file holds, as ``torch.load`` gives it; a dict of tensors for safetensors and ``.npz``.

    Raises:
        MethodError: no such file, a sharded or scripted network, a format that is not known, or an object that is not
            loaded since it might execute code.
    """
    got = f"--checkpoint: got {str(file)!r}"
    # Unlike Path's, these raise nothing, whatever the name is and whoever may look at it.
    if os.path.isdir(file) and any(any(file.glob(pattern)) for pattern in ("*.index.json", "*.distcp", ".metadata")):
        raise MethodError(f"{got}, the folder of a sharded checkpoint; accepted: one file with {ACCEPTED}")
    if not os.path.isfile(file):
        raise MethodError(f"{got}, which is no file; accepted: a file with {ACCEPTED}")
    harmless = _harmless()
    try:
        with open(file, "rb") as handle:
            start = handle.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise MethodError(f"{got}, a pointer of Git LFS; accepted: the file itself, after git lfs pull")
        if file.name.endswith(".index.json"):
            raise MethodError(f"{got}, the index of a sharded checkpoint; accepted: one file with {ACCEPTED}")
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LARGEST_HEADER:
            return _read_safetensors(file)
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
            if any(re.search(r"(^|/)(constants\.pkl|code/)", name) for name in names):
                raise MethodError(
                    f"{got}, a TorchScript archive, which holds code; accepted: {ACCEPTED}, such as "
                    "torch.save(torch.jit.load(FILE).state_dict(), NEW) writes"
                )
            if names and all(name.endswith(".npy") for name in names):
                with np.load(file, allow_pickle=False) as arrays:
                    return {name: arrays[name] for name in arrays.files}
        with warnings.catch_warnings(), torch.serialization.safe_globals(harmless):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except MethodError:
        raise
    except MemoryError:
        raise MethodError(f"{got}, which does not fit the memory of this machine; accepted: a smaller file") from None
    # The readers do not name the errors that a foreign file may raise, and their words advise to execute the file.
    except Exception as error:
        if own_fault(error) is not None:
            raise
        forbidden = re.search(r"GLOBAL ([\w.]+)", str(error)) if "nsupported" in str(error) else None
        why = "which torch.load does not read with weights_only=True"
        if forbidden is not None:
            why += f" (it holds {forbidden[1]}, which might execute code)"
        elif isinstance(error, OSError) and error.strerror:
            why = f"which cannot be read ({error.strerror})"
        elif isinstance(error, _Damaged):
            why = f"a damaged safetensors file ({error})"
        raise MethodError(f"{got}, {why}; accepted: {ACCEPTED}") from None


class _Damaged(Exception):
    """A safetensors file that does not hold what its header says."""


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    """Tensors by name. The format: 8 bytes length of the header, the header in JSON, then the numbers.

    Source: github.com/huggingface/safetensors, "Format".
    """
    with open(file, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        try:
            header = json.loads(handle.read(length))
            body = bytearray(handle.read())
            tensors = {}
            for name, entry in header.items():
                if name != "__metadata__":
                    tensors[name] = _tensor(name, entry, body)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _Damaged(f"{type(error).__name__} in its header") from None
    return tensors


def _tensor(name: str, entry: Mapping[str, Any], body: bytearray) -> Tensor:
    if entry["dtype"] not in DTYPES:
        raise _Damaged(f"{name!r} is of {entry['dtype']!r}, not of {', '.join(DTYPES)}")
    dtype, shape, (begin, end) = DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    numbers = (begin, end, *shape)
    whole = all(type(number) is int and number >= 0 for number in numbers)
    if not whole or not begin <= end <= len(body) or end - begin != math.prod(shape) * dtype.itemsize:
        raise _Damaged(f"{name!r} does not lie where its header says")
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(body, dtype=torch.uint8, offset=begin, count=end - begin).clone().view(dtype).view(shape)


@dataclass(frozen=True)
class Found:
    """Weights for a network: by its own names, and what else a user should know, in words."""

    weights: dict[str, Tensor]
    remarks: tuple[str, ...] = ()


def state_dicts(content: Any) -> list[tuple[str, dict[str, Tensor]]]:
    """Every dict of tensors in what a file holds, with its place there; an empty place for the content itself."""
    return list(_state_dicts(content, (), set()))


def _state_dicts(content: Any, place: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or len(place) > DEPTH or id(content) in seen:
        return
    seen.add(id(content))
    tensors = {key: _as_tensor(value) for key, value in content.items() if isinstance(key, str)}
    found = {key: value for key, value in tensors.items() if value is not None}
    if found:
        yield ".".join(place), found
    for key, value in content.items():
        yield from _state_dicts(value, (*place, str(key)), seen)


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)
    return None


def weights_for(own: Mapping[str, Tensor], content: Any, file: Path, misfit: str) -> Found:
    """The weights of a network in what a file holds.

    Among all dicts of tensors and all prefixes of names (``module.``, ``model.``, ``net._orig_mod.module.``, …) the one
    is taken that has most of the network's names. What the network has no place for is left out with a remark where
    it is a part of its own, as another head is; within a part that the network has it is a sign of another network.

    Args:
        own: the network's state dict.
        content: what :func:`read_weight_file` gave.
        file: where it lies.
        misfit: how to begin the error of weights that do not fit.

    Raises:
        MethodError: there are no such weights: a name is missing or too many, a shape or a kind of number differs.
    """
    needed = {name for name in own if not name.endswith("num_batches_tracked")}
    wrapped = not any("module" in name.split(".") for name in own)
    matches: list[tuple[int, int, int, str, str, dict[str, Tensor]]] = []
    for order, (place, tensors) in enumerate(state_dicts(content)):
        cleaned = {_cleaned(name, wrapped): value for name, value in tensors.items()}
        prefixes = Counter(name[:cut] for name in cleaned for cut in _cuts(name) if name[cut:] in needed) or Counter(
            {"": 0}
        )
        for prefix, count in prefixes.items():
            where = ".".join(part for part in (place, prefix.rstrip(".")) if part)
            matches.append((-count, bool(AVERAGED.search(where)), order, prefix, where, cleaned))
    matches.sort(key=lambda match: (*match[:3], len(match[3])))
    best, _, _, prefix, where, cleaned = matches[0]
    weights = {name.removeprefix(prefix): value for name, value in cleaned.items() if name.startswith(prefix)}
    remarks = []
    others = [match[4] or "its top" for match in matches[1:] if match[0] == best and best < 0]
    if others:
        taken = f"taken is {where or 'its top'}, not {listed(others)}"
        remarks.append(f"{file} holds the network {len(others) + 1} times; {taken}")
    missing = [name for name in own if name in needed and name not in weights]
    unexpected = [name for name in weights if name not in own and not name.endswith("_extra_state")]
    parts = {name.partition(".")[0] for name in own}
    tops = dict.fromkeys(name.partition(".")[0] for name in unexpected)
    foreign = [name for name in unexpected if (top := name.partition(".")[0]) in parts or top.isdigit()]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    kinds = [
        name
        for name in own
        if name in weights and own[name].is_floating_point() and not weights[name].is_floating_point()
    ]
    problem = None
    if missing:
        problem = f"it lacks {missing[0]!r}{_more(missing)}"
        if len(missing) == len(needed):
            problem += f", and holds {listed([repr(name) for name in cleaned]) or 'nothing'}"
        elif re.search(r"\d+-of-\d+", file.name):
            problem += ", as one of several files of a sharded checkpoint does"
    elif foreign:
        problem = f"it has {foreign[0]!r}{_more(foreign)}, which the network lacks"
    elif shapes:
        there, here = (tuple(side[shapes[0]].shape) for side in (weights, own))
        problem = f"{shapes[0]!r} has the shape {there}, in the network {here}{_more(shapes)}"
    elif kinds:
        problem = f"{kinds[0]!r} is of {weights[kinds[0]].dtype}, in the network of {own[kinds[0]].dtype}{_more(kinds)}"
    if problem is not None:
        raise MethodError(f"{misfit}: {problem}; accepted: weights of the network that --space describes")
    if tops:
        remarks.append(f"{file} also holds {listed(list(tops))}, which the network lacks; left out")
    return Found({name: weights[name] for name in own if name in weights}, tuple(remarks))


def _cleaned(name: str, wrapped: bool) -> str:
    # DataParallel may stand around a part of a network.
    wrappers = WRAPPERS | {"module"} if wrapped else WRAPPERS
    return ".".join(part for part in name.split(".") if part not in wrappers)


def _cuts(name: str) -> list[int]:
    return [0, *(found.end() for found in re.finditer(r"\.", name))]


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def require_tensors(content: Any, file: Path) -> None:
    """Raises :class:`MethodError` where a file holds no dict of tensors at all."""
    if not state_dicts(content):
        found = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            found = f"a dict of {listed([str(name) for name in content]) or 'nothing'}"
        raise MethodError(f"--checkpoint: got {str(file)!r}, which holds {found}; accepted: {ACCEPTED}")
