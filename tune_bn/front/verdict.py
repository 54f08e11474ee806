"""A verdict as Python code and a notebook take it."""

from __future__ import annotations

from html import escape
from typing import Any


class Verdict(dict[str, Any]):
    """What ``tune_bn verify --json`` prints, as a dict; ``str`` of it is the verdict in words.

    Of its keys ``verdict`` is ``supported``, ``not_supported`` or ``invalid``, ``reason`` says it in a sentence,
    ``problems`` holds the broken rules of an invalid one, and ``candidates`` has a dict for each arm that was compared.
    """

    @property
    def supported(self) -> bool:
        """Whether at least one candidate is shown to be better."""
        return bool(self["verdict"] == "supported")

    @property
    def invalid(self) -> bool:
        """Whether a rule was broken, so that nothing can be concluded."""
        return bool(self["verdict"] == "invalid")

    @property
    def headline(self) -> str:
        """What ``tune_bn verify`` prints behind ``verdict:``."""
        from tune_bn.analysis.wording import spoken
        from tune_bn.records.verdict import verdict_from

        # Nobody states the unit of a table, in which a loss could be said.
        return str(self["headline"]) if "mode" in self else spoken(verdict_from(dict(self)))

    def __str__(self) -> str:
        lines = [f"verdict: {self.headline}", self["reason"], *(f"note:    {line}." for line in self["remarks"])]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Verdict: {self.headline}: {self['reason']}>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(line)}.</li>" for line in self["remarks"])
        notes = f"<ul>{notes}</ul>" if notes else ""
        return f"<p><b>verdict: {escape(self.headline)}</b><br>{escape(self['reason'])}</p>{notes}"
