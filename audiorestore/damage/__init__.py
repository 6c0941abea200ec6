"""What happens to recordings: simulated for training, found and repaired in restoration."""
