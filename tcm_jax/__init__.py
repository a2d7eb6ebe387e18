"""Learned image compression with mixed Transformer-CNN architectures (TCM, CVPR 2023) in JAX and Flax.

    from tcm_jax.checkpoint import load_weights
    from tcm_jax.codec import Codec

    codec = Codec(load_weights())
    data = codec.compress(image)  # uint8 [H, W, 3] to the bytes of a .tcm file
    image = codec.decompress(data)

Importing the package itself loads nothing: JAX starts with the modules that need it.
"""
