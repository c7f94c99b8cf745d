"""The command line of `a3c`."""
