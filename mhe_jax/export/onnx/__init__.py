"""A traced JAX program as an ONNX graph: the operations of inference, each in a few nodes.

https://onnx.ai/onnx/operators says what a node does, and jax.lax what an operation does.
"""
