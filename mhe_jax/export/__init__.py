"""A trained run as a file for others: StableHLO, ONNX, safetensors, PyTorch; one file or folder a format."""
