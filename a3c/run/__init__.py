"""A run from the outside: its folder, log, checkpoints, beginnings and ends."""
