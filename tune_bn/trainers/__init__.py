"""Trainers of a user's own: a command line, and a function."""
