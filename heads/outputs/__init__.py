"""Files that runs write: results, predictions and pictures."""
