"""Any command line as a trainer: a folder for each run, a process that is watched over, and what its rows amount to."""
