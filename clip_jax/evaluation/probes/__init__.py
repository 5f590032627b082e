"""Classifiers fitted to features: linear probes, and few-shot ones."""
