"""Where pairs come from: one module a format, and the SPEC strings that name them."""
