"""The API server: Flask over the store, schema-driven, lists and watches from memory."""
