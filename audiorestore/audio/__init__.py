"""What sound is, and how it gets from files to samples and back."""
