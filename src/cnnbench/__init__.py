"""cnnbench: train, measure and compare convolutional networks on real images."""

__version__ = "0.1.0"
