"""How tasks train: learning rates, schedules, averages, sweeps, several processes."""
