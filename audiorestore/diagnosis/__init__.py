"""What is wrong with a recording: findings, and the detectors that make them."""
