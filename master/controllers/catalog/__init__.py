"""One controller a file, each exporting CONTROLLER. To add one, add a file."""
