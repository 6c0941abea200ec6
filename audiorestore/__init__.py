"""audiorestore: restore damaged recordings in batches, and account for every sample."""

__version__ = "0.1.0"
