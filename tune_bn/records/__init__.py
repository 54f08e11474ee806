"""The files of a study: records, curves, diagnostics, and what decides a score."""
