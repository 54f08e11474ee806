"""This machine and this installation: cores, ports, the process itself; libraries, and packages that add to tables."""
