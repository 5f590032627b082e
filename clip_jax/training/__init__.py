"""Training: a recipe in, a workdir with checkpoints, metrics and pictures out.

`clip_jax.training.config` holds what recipes are made of, `clip_jax.training.loop.train` runs one.
"""
