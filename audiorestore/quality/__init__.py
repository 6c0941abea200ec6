"""Measures of sound, with a clean reference and without one."""
