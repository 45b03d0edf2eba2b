"""The measured charts of docs/server/ways.md: `make bench-ways`."""
