"""The process, shared by every part: clock, loop, shell, discovery, log. Imports nothing of ours above it."""
