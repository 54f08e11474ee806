"""The parts of the paper kit that are the same for every study: references, and a paper that holds the parts."""

from __future__ import annotations

METHOD = r"""@inproceedings{davis2022revisiting,
  author    = {Davis, Jim and Frank, Logan},
  title     = {Revisiting Batch Norm Initialization},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2022},
  note      = {arXiv:2110.13989},
  url       = {https://arxiv.org/abs/2110.13989}
}"""
AUTHOR, YEAR = "the tune_bn authors", 2026
"""As the licence has them."""


def tool_entry(version: str | None, commit: str | None) -> str:
    """BibTeX of this package, in the version and at the commit that trained, where they are known."""
    fields = {
        "author": f"{{{AUTHOR}}}".replace("_", r"\_"),
        "title": r"tune\_bn: search and confirmation of the initial batch-norm scale",
        "year": str(YEAR),
        "howpublished": "Python package",
        "version": version,
        "note": None if commit is None else f"commit {commit}",
    }
    lines = [f"  {name:<7} = {{{value}}}" for name, value in fields.items() if value is not None]
    return "@misc{tune_bn,\n" + ",\n".join(lines) + "\n}"


REFERENCES = r"""@article{holm1979simple,
  author = {Holm, Sture},
  title = {A Simple Sequentially Rejective Multiple Test Procedure},
  journal = {Scandinavian Journal of Statistics},
  volume = {6},
  pages = {65--70},
  year = {1979}
}
@book{westfall1993resampling,
  author = {Westfall, Peter H. and Young, S. Stanley},
  title = {Resampling-Based Multiple Testing},
  publisher = {Wiley},
  year = {1993}
}
@article{berger1982multiparameter,
  author = {Berger, Roger L.},
  title = {Multiparameter Hypothesis Testing and Acceptance Sampling},
  journal = {Technometrics},
  volume = {24},
  pages = {295--300},
  year = {1982}
}
@article{demsar2006statistical,
  author = {Dem{\v{s}}ar, Janez},
  title = {Statistical Comparisons of Classifiers over Multiple Data Sets},
  journal = {Journal of Machine Learning Research},
  volume = {7},
  pages = {1--30},
  year = {2006}
}
@article{student1908probable,
  author = {{Student}},
  title = {The Probable Error of a Mean},
  journal = {Biometrika},
  volume = {6},
  pages = {1--25},
  year = {1908}
}
@article{schuirmann1987comparison,
  author = {Schuirmann, Donald J.},
  title = {A Comparison of the Two One-Sided Tests Procedure and the Power Approach
           for Assessing the Equivalence of Average Bioavailability},
  journal = {Journal of Pharmacokinetics and Biopharmaceutics},
  volume = {15},
  pages = {657--680},
  year = {1987}
}
"""

CORRECTION = "@CORRECTION@"
"""Where :data:`PAPER` says by what several comparisons are corrected."""
PAPER = r"""% Shows how the parts fit together: pdflatex paper && bibtex paper && pdflatex paper
\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\input{numbers}
% A table that is wider than the page is made smaller, and no other.
\newsavebox{\fitting}
\newcommand{\fitted}[1]{\sbox{\fitting}{#1}\ifdim\wd\fitting>\linewidth
  \resizebox{\linewidth}{!}{\usebox{\fitting}}\else\usebox{\fitting}\fi}
\begin{document}
\section*{\tbnStudy}
\tbnVerdict, $\alpha = \tbnAlpha$, $n = \tbnSeeds$ seeds. The method is that of \cite{davis2022revisiting}; the test is
the paired $t$-test \cite{student1908probable}.@CORRECTION@

\begin{table}[h]\centering\small
\fitted{\input{table}}
\caption{Mean $\pm$ standard deviation over seeds. Bold: the claim holds.}
\end{table}

\input{methods}

\begin{figure}[h]\centering
\includegraphics[width=\linewidth]{pairs}
\caption{Paired scores.}
\end{figure}
\begin{figure}[h]\centering
\includegraphics[width=\linewidth]{effects}
\caption{Effects.}
\end{figure}

\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""
