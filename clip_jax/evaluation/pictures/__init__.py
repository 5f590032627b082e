"""One's own pictures: labels for them, which wording of prompts tells them best, and search."""
