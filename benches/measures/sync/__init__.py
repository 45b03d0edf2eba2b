"""The benchmarks of locks, events and queues."""
