"""Evaluation protocols, each over any Model, and what they report."""
