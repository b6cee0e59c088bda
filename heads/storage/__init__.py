"""Heads as files: checkpoints, exports, the hub."""
