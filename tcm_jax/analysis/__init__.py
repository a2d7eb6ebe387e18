"""What a network does to a picture, as arrays: latents and bits, receptive fields, work. `figures.py` draws them."""
