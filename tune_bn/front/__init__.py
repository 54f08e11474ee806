"""The Python front door: a study opened, searched for, and scores judged, from a script or a notebook.

:mod:`tune_bn` offers these names itself; each loads what it needs at its first use.
"""
