"""How tasks train: rates, schedules, averages, sweeps, several processes."""
