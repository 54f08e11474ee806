"""A standard output that is a terminal, or is none."""

from __future__ import annotations

import io


class StandardOutput(io.StringIO):
    """What is written is kept; its cursor moves unless ``$TERM`` says otherwise."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal
