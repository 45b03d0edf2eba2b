"""Locks, events and queues under test, one module per library."""
