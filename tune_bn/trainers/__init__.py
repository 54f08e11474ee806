"""What trains the runs of a study: the built-in loop, a command line, a function."""
