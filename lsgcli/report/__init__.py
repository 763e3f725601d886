"""Turns records into what a person sees: tables, pages and plots."""
