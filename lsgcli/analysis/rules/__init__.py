"""Rules that find what is wrong with a network: a measure outside its usual range, the cause, and what to change."""
