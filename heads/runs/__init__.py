"""Runs from the command line: configs, checkpoints, folder locks, signals and progress."""
