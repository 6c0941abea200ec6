"""Clean sound in, a trained network out."""
