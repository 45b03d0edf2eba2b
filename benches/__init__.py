"""Benchmarks of manyhands against the libraries people use today: `python -m benches --help`."""
