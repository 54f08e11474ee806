"""For those who extend the package: contract suites, and stand-ins that train nothing."""
