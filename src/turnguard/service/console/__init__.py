"""The console: pages that a browser shows without any script, and a few lines of script that make them quicker.

It reads records and answers reviews, and never changes a policy.
"""
