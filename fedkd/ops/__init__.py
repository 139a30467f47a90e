"""Steps that several algorithms share: plain functions on tensors.

Shape suffixes of tensor names, for the whole repository: K clients or experts, B batch,
C classes, D feature width, Z latent width, N prototypes. Images are ``x``, labels ``y``.
"""
