"""Tables, statistics and figures from run folders. Nothing here imports torch."""
