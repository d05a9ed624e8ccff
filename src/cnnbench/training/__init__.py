"""Training: optimizers, steps, epochs, evaluation, checkpoints, and `fit` in `trainer.py`, where to start reading."""
