"""From a SPEC to batches on the way to the devices: sources, pictures, token ids, their order."""
