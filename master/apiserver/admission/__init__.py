"""Admission: what may change or refuse a write after it was decoded. One file a concern, each exporting `ADMISSION`."""
