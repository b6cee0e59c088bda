"""What runs write for people and programs: results, predictions, pictures."""
