"""Every test runs on 8 simulated CPU devices; tests that need fewer take the first ones."""

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
