"""What python -m clip_jax.data does with a data set."""
