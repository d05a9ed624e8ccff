"""Files: atomic writes and locks, readers that trust no file, and names that are safe to print."""
