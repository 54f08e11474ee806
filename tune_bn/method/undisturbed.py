"""A room of its own for a user's network that is only tried: it leaves no trace in the process."""

from __future__ import annotations

import contextlib
import io
import random
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Leave generators, default type, gradient mode and threads as they were, and keep quiet.

    What is printed, and torch's and Python's warnings, are dropped: a network that is trained will say it again. What
    it keeps in modules and globals of its own is out of reach.
    """
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    python, kind, threads = random.getstate(), torch.get_default_dtype(), torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.set_grad_enabled(True))
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            yield
        finally:
            np.random.set_state(numpy)  # noqa: NPY002
            random.setstate(python)
            torch.set_default_dtype(kind)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Let what the user compiled run as it is written: compiling takes a minute and says nothing about the network."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def host_randomness() -> tuple[object, ...]:
    """The state of NumPy's and Python's global generators, to be compared."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    return random.getstate(), repr(numpy)
