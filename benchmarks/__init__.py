"""Measurements that anyone can rerun. Each prints ratios within one run, alternating, never bare times."""
