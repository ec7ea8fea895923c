"""Export trained models: as transformers' own classes, in mtl's native format, and as ONNX."""
