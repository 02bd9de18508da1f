"""One provider a file; each exports `PROVIDER`."""
