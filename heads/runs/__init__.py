"""A run from the command line: its checkpoints, its folder, its signals, its progress."""
