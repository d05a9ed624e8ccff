"""Training: optimizers and schedules, checkpoints, the loop, and `fit`, which tells the whole story."""
