"""What the entries of the catalogue share; no entry stands here."""
