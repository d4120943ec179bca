"""What gwfast costs, measured beside others on the machine at hand. `python -m bench --help`, and README.md here."""
