"""Text -> token ids, and the vocabularies that say how."""
