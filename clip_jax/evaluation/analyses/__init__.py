"""The paper's analyses of a model and its data: overlap, bias, comparison with people."""
