"""Experiment E10 of docs/evidence-plans.md: failures in scripts of several libraries, and what is said about them."""
