"""Bias probes (paper, section 7): how a model treats groups of people in labelled pictures."""
