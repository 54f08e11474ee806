"""The report of a study, as Markdown and as one HTML page, from the files in its folder alone."""

from tune_bn.report.writing import write_report

__all__ = ["write_report"]
