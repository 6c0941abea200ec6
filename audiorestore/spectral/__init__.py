"""The time-frequency door and the tools of signal processing."""
