"""Tests; README.md says what lives where."""
