"""What every part shares: data, randomness, policies, files, errors; imports nothing else of this project."""
