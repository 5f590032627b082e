"""Tar shards in random access: their headers, their samples, and an index of many on disk."""
