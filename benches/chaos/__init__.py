"""What servers lose when they are reloaded and their workers are killed: `make chaos`."""
