"""One drill a file; each exports `DRILL`."""
