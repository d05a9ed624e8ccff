"""A run's network for other programs: ONNX, torch.export or safetensors, checked before it is written."""
