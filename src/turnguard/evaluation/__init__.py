"""Measure a moderator through the guard that will run, calibrate its probabilities, and moderate in bulk.

Nothing here is imported by the guard; numpy and its kin are imported where they are used (extra `eval`).
"""
