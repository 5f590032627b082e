"""Videos: which frames of them are read, and how. Where videos come from is in sources/."""
