"""Export a run's network to other programs: ONNX, torch.export or safetensors, checked before it is written."""
