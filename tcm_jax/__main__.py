"""`python -m tcm_jax` is `tcm`."""

from tcm_jax.cli import entry

if __name__ == "__main__":
    entry()
