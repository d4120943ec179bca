"""What every version of HTTP shares: heads and their fields, targets, bodies, and what the gateway writes of them."""
