"""Claims of the course: read from `configs/claim`, planned as runs of a sweep, measured, and judged."""
