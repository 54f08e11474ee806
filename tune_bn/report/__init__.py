"""The report of a study, as Markdown and as one HTML page, from the files in its folder alone."""

import logging

# Where the home cannot be written it says so in paragraphs when it is loaded; only its next start is slower.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

from tune_bn.report.writing import write_report  # noqa: E402

__all__ = ["write_report"]
