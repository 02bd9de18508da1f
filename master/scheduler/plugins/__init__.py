"""One plugin a file, each exporting PLUGIN. To add one, add a file."""
