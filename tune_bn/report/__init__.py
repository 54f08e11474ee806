"""The report of a study, in Markdown with plots, from the files in its folder alone."""

from tune_bn.report.markdown import write_report

__all__ = ["write_report"]
