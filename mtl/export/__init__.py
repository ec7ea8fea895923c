"""`mtl export`: from a run to what others load: transformers' own classes, a directory of ours, ONNX."""
