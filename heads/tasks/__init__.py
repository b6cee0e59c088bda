"""One task a file: loss, metric, prediction."""
